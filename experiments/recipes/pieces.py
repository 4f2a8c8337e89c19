"""The runs of the ablation as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cxr_keras.training.recipes import MODERN, RECIPES

NETWORK = "efficientnet_lite0"
ADDED, REMOVED, TRIED = "added", "removed", "tried"

# One split for all, without a test split: 1,700 validation images tell more than 850
COMMON: dict[str, Any] = {
    "size": 128,
    "epochs": 8,
    "per_class": "all",
    "val_share": 0.2,
    "test_share": 0,
}
_MODERN = RECIPES[MODERN]

# From the report's recipe to the modern one, a piece at a time
_PIECES: dict[str, tuple[str, ...]] = {
    "all layers train": ("fine_tune",),
    "bfloat16": ("precision",),
    "lr 0.001, batch 32": ("lr", "batch_size"),
    "AdamW with weight decay": ("optimizer", "weight_decay"),
    "one-cycle": ("schedule",),
    "whole image": ("fit",),
    "light augmentation": ("augment",),
    "flip": ("flip",),
    "strong augmentation": ("augment",),
    "mixup": ("mixup",),
    "averaged weights": ("ema",),
    "epoch by val_auroc": ("monitor",),
}
_REMOVED: dict[str, dict[str, Any]] = {
    "weight decay": {"weight_decay": 0.0},
    "one-cycle": {"schedule": "constant"},
    "augmentation": {"augment": "none"},
    "strong augmentation, for light": {"augment": "light"},
    "flip": {"flip": False},
    "mixup": {"mixup": 0.0},
    "averaged weights": {"ema": 0.0},
    "whole image, for the centre": {"fit": "crop"},
    "bfloat16, for float32": {"precision": "float32"},
}
_TRIED: dict[str, dict[str, Any]] = {
    "label smoothing 0.05": {"label_smoothing": 0.05},
    "balanced batches": {"sampler": "balanced"},
    "weighted loss": {"loss": "weighted_bce"},
    "layer-wise decay 0.8": {"layer_decay": 0.8},
    "dropout 0.4": {"dropout": 0.4},
    "lower rate, 0.0003": {"lr": 3e-4},
    "higher rate, 0.002": {"lr": 2e-3},
    "no mixup, no averaged weights": {"mixup": 0.0, "ema": 0.0},
    "second seed": {"seed": 43},
}
_SECONDS_AN_IMAGE = 1 / 110


@dataclass(frozen=True)
class Step:
    """One run of the ablation.

    Attributes:
        group: ADDED to the step before it, or REMOVED from, or TRIED on top of, the whole recipe.
        piece: what.
        against: the name of the run that it is compared with; "" for the first.
        settings: of `cxr_keras.train`.
    """

    group: str
    piece: str
    against: str
    settings: dict[str, Any] = field(hash=False)
    model: str = NETWORK

    @property
    def name(self) -> str:
        """Of the run folder."""
        return name_of(self.group, self.piece)

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.group}: {self.piece}"

    @property
    def cost(self) -> float:
        """Seconds on 2 cores, roughly."""
        epochs = 1 if self.settings.get("fine_tune") is None else self.settings["epochs"]
        images = 6800 * (self.settings["size"] / COMMON["size"]) ** 2
        return 20 + epochs * images * _SECONDS_AN_IMAGE


def name_of(group: str, piece: str) -> str:
    """A run folder's name."""
    words = "".join(c if c.isalnum() or c == "." else " " for c in piece).split()
    return "-".join([group, *words])


def steps() -> list[Step]:
    """Every run, in the order in which they are made."""
    settings = {"recipe": "report", **COMMON, "fit": "crop", "precision": "float32"}
    found = [Step(ADDED, "report's recipe", "", dict(settings))]
    for piece, names in _PIECES.items():
        values = {name: _MODERN[name] for name in names}
        if piece == "light augmentation":
            values = {"augment": "light"}
        settings |= values
        found.append(Step(ADDED, piece, found[-1].name, dict(settings)))
    whole = found[-1]
    for group, changes in ((REMOVED, _REMOVED), (TRIED, _TRIED)):
        for piece, values in changes.items():
            found.append(Step(group, piece, whole.name, whole.settings | values))
    return found
