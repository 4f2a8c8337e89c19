"""Image files and a network → predictions, and what the network's guard says of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cxr_keras.data.images import Radiograph, read_radiograph
from cxr_keras.errors import ImageError
from cxr_keras.framing import Framing
from cxr_keras.inference.forward import BATCH_SIZE, forward
from cxr_keras.inference.guard import UNLIKE, Guard
from cxr_keras.inference.guarded import Guarded
from cxr_keras.inference.options import NO_TTA, Tta
from cxr_keras.runs.card import Card
from cxr_keras.utils.threads import threaded_map


@dataclass(frozen=True)
class Prediction:
    """What the network says of one file.

    Attributes:
        path: the file, as it was named or found.
        probabilities: label → probability; empty for a file that could not be read.
        findings: labels at or above their threshold, most probable first.
        label_set: labels of which the network's guarantee says how many findings they hold, most
            probable first, see `metrics.conformal`; None for a network without one.
        header: what a DICOM file says of patient and image, see `data.dicom.IDENTIFIERS`.
        familiarity: how usual the image is to the network, 0…1, see `inference.guard`; None where
            the network has no guard.
        warnings: what may be wrong with the image.
        corrected: how it was changed before it was predicted, see `fix_orientation`.
        error: why the file could not be read; empty for a good one.
        pixels: uint8 (side, side), what the network was given; None for a bad file.
    """

    path: Path
    probabilities: dict[str, float] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    label_set: tuple[str, ...] | None = None
    header: dict[str, str] = field(default_factory=dict)
    familiarity: float | None = None
    warnings: tuple[str, ...] = ()
    corrected: str = ""
    error: str = ""
    pixels: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def unlike_training(self) -> bool | None:
        """Whether the image is of another kind than the network was trained on; None: not known."""
        return None if self.familiarity is None else self.familiarity < UNLIKE


def predict_files(
    model: Any,
    files: Iterable[Path],
    *,
    card: Card,
    tta: Tta = NO_TTA,
    guard: Guard | None = None,
    fix_orientation: bool = False,
) -> Iterator[Prediction]:
    """Predict `files` in order; decoding runs ahead on threads while the network works.

    Args:
        model: the network.
        files: the images.
        card: of the network.
        tta: test-time augmentation.
        guard: of the network; None to ask none.
        fix_orientation: see `predict`.
    """
    guarded = None if guard is None else Guarded(model, guard)
    decoded = threaded_map(partial(_decode, framing=card.framing), files)
    while batch := list(islice(decoded, BATCH_SIZE)):
        pixels = [image.pixels for _, image in batch if isinstance(image, Radiograph)]
        stacked = [np.stack(pixels)[..., np.newaxis]] if pixels else []
        answers = _answers(model, guarded, stacked, tta)
        rows = []
        for path, image in batch:
            if isinstance(image, ImageError):
                rows.append(Prediction(path, error=str(image)))
            else:
                values, familiarity = next(answers)
                rows.append(_row(path, image, values, card, familiarity))
        if guarded is not None:
            rows = _looked_into(rows, guarded, card, tta, fix=fix_orientation)
        yield from rows


def _answers(
    model: Any, guarded: Guarded | None, batches: list[np.ndarray], tta: Tta
) -> Iterator[tuple[np.ndarray, float | None]]:
    """The outputs (n_labels,) and the familiarity of one image after the other."""
    if guarded is None:
        for outputs in forward(model, batches, tta=tta):
            yield from ((one, None) for one in outputs)
    else:
        for outputs, familiarity in guarded.run(batches, tta=tta):
            yield from zip(outputs, map(float, familiarity), strict=True)


def _looked_into(
    rows: list[Prediction], guarded: Guarded, card: Card, tta: Tta, *, fix: bool
) -> list[Prediction]:
    """The rows, with what would make images familiar that are unlike training, or made so."""
    strange = [place for place, row in enumerate(rows) if row.unlike_training]
    if not strange:
        return rows
    pixels = np.stack([np.asarray(rows[place].pixels) for place in strange])
    for place, found in zip(strange, guarded.corrections(pixels), strict=True):
        row = rows[place]
        if found is None:
            continue
        if not fix:
            said = (*row.warnings, f"familiar if {found.name} (--fix-orientation does that)")
            rows[place] = dataclasses.replace(row, warnings=said)
            continue
        image = Radiograph(found.pixels, row.header, (*row.warnings, f"predicted {found.name}"))
        batch = [found.pixels[np.newaxis, ..., np.newaxis]]
        values, familiarity = next(_answers(guarded.model, guarded, batch, tta))
        fixed = _row(row.path, image, values, card, familiarity)
        rows[place] = dataclasses.replace(fixed, corrected=found.name)
    return rows


def _decode(path: Path, framing: Framing) -> tuple[Path, Radiograph | ImageError]:
    try:
        return path, read_radiograph(path, framing)
    except ImageError as error:
        return path, error


def _row(
    path: Path, image: Radiograph, values: np.ndarray, card: Card, familiarity: float | None
) -> Prediction:
    probabilities = {name: float(value) for name, value in zip(card.labels, values, strict=True)}
    positive = [
        name
        for name, threshold in zip(card.labels, card.thresholds, strict=True)
        if probabilities[name] >= threshold
    ]
    positive.sort(key=lambda name: -probabilities[name])
    label_set = None
    if card.guarantee:
        held = [
            name for name in card.findings if probabilities[name] >= card.guarantee["threshold"]
        ]
        label_set = tuple(sorted(held, key=lambda name: -probabilities[name]))
    return Prediction(
        path,
        probabilities,
        tuple(positive),
        label_set,
        image.header,
        familiarity,
        image.warnings,
        pixels=image.pixels,
    )
