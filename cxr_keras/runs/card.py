"""The card of a model file: what a network says about itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cxr_keras.data.labels import LABELS
from cxr_keras.metrics.calibration import Scaling

FORMAT = "cxr-keras card 1"


@dataclass(frozen=True)
class Card:
    """What a `.keras` file says about itself.

    Attributes:
        labels: names of the outputs, in order.
        thresholds: per output; a label is predicted positive at or above it. Chosen on the
            validation split.
        scaling: makes the outputs calibrated probabilities, see `calibration.Scaling`; empty
            for none.
        data: the training data: root, fingerprint, phantoms, per_class, not_chosen, split,
            split_digest, seed, sizes, base_rates.
        settings: how it was trained.
        notice: a sentence that belongs beside every result, empty if none does.
    """

    labels: tuple[str, ...] = LABELS
    thresholds: tuple[float, ...] = (0.5,) * len(LABELS)
    scaling: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notice: str = ""

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """The network's outputs (n, n_labels) as the card scales them."""
        if not self.scaling:
            return outputs
        return Scaling.from_dict(self.scaling).apply(outputs)

    def to_json(self) -> str:
        """The card as it stands in the archive."""
        return json.dumps({"format": FORMAT} | self.__dict__, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read a card back.

        Raises:
            ValueError: it is not a card of this format.
        """
        content: dict[str, Any] = json.loads(text)
        found = content.pop("format", None)
        if found != FORMAT:
            raise ValueError(
                f"its format is {found!r}, this version reads {FORMAT!r}: a newer cxr-keras "
                "may have written it, install that one"
            )
        for name in ("labels", "thresholds"):
            content[name] = tuple(content[name])
        labels, thresholds = content["labels"], content["thresholds"]
        if len(labels) != len(thresholds):
            raise ValueError("it has not one threshold a label")
        if len(set(labels)) < len(labels) or not set(labels) <= set(LABELS):
            raise ValueError("its labels are not those of ChestX-ray14")
        if not all(isinstance(t, float | int) and 0 <= t <= 1 for t in thresholds):
            raise ValueError("its thresholds are not numbers in 0…1")
        scaling = content.get("scaling")
        if scaling and len(Scaling.from_dict(scaling).slope) != len(labels):
            raise ValueError("its scaling has not one slope a label")
        return cls(**content)
