"""From the prevalence on which a network's probabilities are right to that of another place.

The log odds of a label move by its log odds of the new prevalence less those of the old one:
Saerens, Latinne & Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori
Probabilities", 2002, https://doi.org/10.1162/089976602753284446. It assumes that the images with a
label look the same in both places, and those without it, too, so that only how often it occurs
differs.

The old prevalence is that of the data on which the probabilities are right: of the validation
split, on which temperature and Platt scaling are fitted; of the training split for outputs as they
are, and for a label with too few validation images to fit or count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxr_keras.errors import DataError
from cxr_keras.metrics.calibration import prevalence_shift
from cxr_keras.metrics.options import MIN_POSITIVES, ScalingMethod
from cxr_keras.metrics.per_label import per_known, split_truth

ASSUMPTION = (
    "Assumed: images with a label look the same there as here, and those without it, too; only how "
    "often it occurs differs (Saerens et al. 2002)."
)


@dataclass(frozen=True)
class Move:
    """A move of some labels to another prevalence.

    Attributes:
        labels: names of the outputs.
        old: prevalence on which their probabilities are right, (n_labels,); NaN for a label that
            stays.
        new: prevalence to move to; NaN for the same labels.
        source: the name of the file that `new` is from; empty for no move.
    """

    labels: tuple[str, ...]
    old: np.ndarray
    new: np.ndarray
    source: str = ""

    @property
    def shift(self) -> np.ndarray:
        """What to add to each label's log odds, (n_labels,); 0 for a label that stays."""
        moved = ~np.isnan(self.new)
        shift = np.zeros(len(self.labels))
        shift[moved] = prevalence_shift(self.old[moved], self.new[moved])
        return shift

    def to_dict(self) -> dict[str, Any] | None:
        """For card and run.json; None for no move."""
        if not self.source:
            return None
        old, new = (
            {n: round(float(p), 6) for n, p in zip(self.labels, part, strict=True) if p == p}
            for part in (self.old, self.new)
        )
        return {"source": self.source, "old": old, "new": new}


def no_move(labels: Sequence[str]) -> Move:
    """Every label stays at its prevalence."""
    nothing = np.full(len(labels), np.nan)
    return Move(tuple(labels), nothing, nothing)


def plan_move(
    wanted: Mapping[str, float],
    truth: np.ndarray,
    base_rates: Mapping[str, float],
    *,
    labels: Sequence[str],
    method: ScalingMethod,
    source: str,
) -> tuple[Move, list[str]]:
    """Decide from which prevalence each label moves to the one that is wanted.

    Args:
        wanted: label → prevalence there, above 0 and below 1.
        truth: of the validation split, (n_samples, n_labels), 1, 0 or NaN (unknown).
        base_rates: label → share of the training images.
        labels: names of the columns.
        method: how the probabilities were scaled on the validation split.
        source: the name of the file that `wanted` is from.

    Returns:
        The move, and sentences about it.

    Raises:
        DataError: no label can be moved.
    """
    flags, sure = split_truth(truth)
    positives, images = flags.sum(axis=0), sure.sum(axis=0)
    few = np.minimum(positives, images - positives) < MIN_POSITIVES
    trained = np.array([base_rates[label] for label in labels])
    old = trained if method == "none" else np.where(few, trained, per_known(positives, sure))
    known = np.array([label in wanted for label in labels])
    moved = known & (old > 0) & (old < 1)
    if not moved.any():
        raise DataError(
            f"{source} gives no prevalence of a label that this network has seen in training and "
            f"that can be moved. The network's labels: {', '.join(labels)}."
        )
    new = np.array([wanted.get(label, np.nan) for label in labels])
    move = Move(tuple(labels), np.where(moved, old, np.nan), np.where(moved, new, np.nan), source)
    return move, _sentences(move, known, method)


def notice_of(source: str) -> str:
    """What belongs beside results of a network that was moved to the prevalence of `source`."""
    return (
        f"Probabilities and thresholds are for the prevalence of {source}: on images with another "
        "one, such as this network's own test split, precision, F1, calibration error and loss are "
        "not those to expect there."
    )


def _sentences(move: Move, known: np.ndarray, method: ScalingMethod) -> list[str]:
    steps = [
        f"{label} {old:.3g} → {new:.3g}"
        for label, old, new in zip(move.labels, move.old, move.new, strict=True)
        if new == new
    ]
    found = [f"Moved to the prevalence of {move.source}: {', '.join(steps)}. {ASSUMPTION}"]
    for stays, why in (
        (~known, f"{move.source} gives no prevalence above 0 and below 1 of these labels"),
        (known & np.isnan(move.new), "In training no image, or every one, had these labels"),
    ):
        names = [label for label, stay in zip(move.labels, stays, strict=True) if stay]
        if names:
            found.append(f"{why}, so they stay as they are: {', '.join(names)}.")
    if method == "none":
        found.append(
            "The outputs are taken to be right at the training split's prevalence; a weighted loss "
            "or a network too sure of itself belies that, and --method platt fits them first."
        )
    return found
