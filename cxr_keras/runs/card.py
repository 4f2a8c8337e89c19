"""The card of a model file: what a network says about itself, without a path of the machine."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from cxr_keras.data.labels import LABELS, NO_FINDING
from cxr_keras.data.selection import artificial_prevalence
from cxr_keras.data.splits import TEST, VAL
from cxr_keras.errors import CxrError
from cxr_keras.framing import Framing
from cxr_keras.metrics.calibration import Scaling

# of columns and labels: a "/" in them is none of a path
_NAMES = ("labels", "label_columns", "path_column", "patient_column")
FORMAT = "cxr-keras card 3"
# 1: the scaling is in the card alone, paths are whole; 1 and 2: of NIH's labels, without "normal"
FORMATS = ("cxr-keras card 1", "cxr-keras card 2", FORMAT)
NO_TEST_SPLIT = (
    "This network has no test split: these numbers are of its validation split, which chose its "
    "epoch, its thresholds and any calibration, so they flatter it. `cxr-keras evaluate RUN --data "
    "OTHER` measures it on images that it does not know."
)


@dataclass(frozen=True)
class Card:
    """What a `.keras` file says about itself.

    Attributes:
        labels: names of the outputs, in order.
        normal: the one of them that says that there is no finding; None if none does.
        thresholds: per output; a label is predicted positive at or above it. Chosen on the
            validation split.
        calibration: how `calibrate` made probabilities and thresholds: method, slope and shift
            per output (see `calibration.Scaling`), sensitivity, prevalence (old and new) or None,
            and guarantee where it was asked for; empty for a network that is not calibrated. The
            scaling itself is in the graph.
        scaling: of a file written before it was in the graph: `load_model` puts it there.
        data: the training data: root (the folder's name), fingerprint, phantoms, per_class,
            not_chosen, split, val_share, test_share, split_digest, seed, sizes, base_rates, size,
            fit, reading (what of `data.reading.Reading` is not the default; none where all is). An
            older card without the shares, size or fit means their defaults.
        settings: how it was trained; of paths their last part.
        notice: a sentence that belongs beside every result, empty if none does.
    """

    labels: tuple[str, ...] = LABELS
    normal: str | None = NO_FINDING
    thresholds: tuple[float, ...] = (0.5,) * len(LABELS)
    calibration: dict[str, Any] = field(default_factory=dict)
    scaling: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notice: str = ""

    @property
    def findings(self) -> tuple[str, ...]:
        """The labels without the one that means none."""
        return tuple(label for label in self.labels if label != self.normal)

    @property
    def guarantee(self) -> dict[str, Any] | None:
        """Of label sets with a guarantee: level, threshold, patients; None without one."""
        return self.calibration.get("guarantee")

    @property
    def measured_split(self) -> str:
        """The split whose tables a run shows: "test", or "val" where no image was kept for it."""
        return TEST if self.data.get("sizes", {}).get(TEST, 1) else VAL

    @property
    def split_notice(self) -> str:
        """What a missing test split means for those tables; empty where there is one."""
        return "" if self.measured_split == TEST else NO_TEST_SPLIT

    @property
    def prevalence_notice(self) -> str:
        """What a balanced choice of images means for the numbers; empty if it means nothing.

        A network that was moved to another prevalence says so in its notice instead.
        """
        return "" if self.calibration.get("prevalence") else artificial_prevalence(self.data)

    @property
    def framing(self) -> Framing:
        """How large the images are that the network takes, and how much of them."""
        return Framing.of(self.data)

    def without_paths(self) -> Card:
        """The card with the last part alone of each path; one of format 1 holds whole ones."""
        return replace(self, data=_without_paths(self.data), settings=_without_paths(self.settings))

    def to_json(self) -> str:
        """The card as it stands in the archive; of every path in it only the last part."""
        return json.dumps({"format": FORMAT} | self.without_paths().__dict__, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read a card back.

        Raises:
            ValueError: it is not a card of this format.
        """
        content: dict[str, Any] = json.loads(text)
        found = content.pop("format", None)
        if found not in FORMATS:
            raise ValueError(
                f"its format is {found!r}, this version reads {FORMAT!r}: a newer cxr-keras "
                "may have written it, install that one"
            )
        for name in ("labels", "thresholds"):
            content[name] = tuple(content[name])
        labels, thresholds = content["labels"], content["thresholds"]
        if len(labels) != len(thresholds):
            raise ValueError("it has not one threshold a label")
        if len(set(labels)) < len(labels) or not all(isinstance(n, str) and n for n in labels):
            raise ValueError("its labels are not names, each once")
        if found != FORMAT:
            content["normal"] = NO_FINDING if NO_FINDING in labels else None
        if content.get("normal") not in (None, *labels):
            raise ValueError("its label that means normal is none of its labels")
        if not all(isinstance(t, float | int) and 0 <= t <= 1 for t in thresholds):
            raise ValueError("its thresholds are not numbers in 0…1")
        scaling = content.get("scaling")
        if scaling and len(Scaling.from_dict(scaling).slope) != len(labels):
            raise ValueError("its scaling has not one slope a label")
        card = cls(**content)
        try:
            _ = card.framing
        except CxrError as error:
            raise ValueError(str(error)) from error
        return card


def _without_paths(value: Any) -> Any:
    """`value` with the last part of each text that has a separator in it."""
    if isinstance(value, dict):
        return {
            name: part if name in _NAMES else _without_paths(part) for name, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_paths(part) for part in value]
    if isinstance(value, str) and re.search(r"[/\\]", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value
