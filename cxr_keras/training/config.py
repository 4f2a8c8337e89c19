"""`TrainConfig`: everything that decides a run, checked before anything is done."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr_keras.data import sampling
from cxr_keras.errors import CxrError

RUNS_FOLDER = "saved_models"
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run. The same values on the same machine: the same weights.

    Attributes:
        model: a registered network.
        data: a folder in NIH's layout; None for the default (see `resolve_data`).
        epochs, lr, batch_size: of Adam.
        loss: one of `losses.LOSSES`.
        weights: "imagenet", "none" or a torchvision `.pth`; None for "imagenet" where the network
            has such weights.
        fine_tune: of pretrained weights: None trains the head alone, a number the last blocks
            too, "all" everything.
        precision: "float32", "mixed_bfloat16" or "mixed_float16"; for GPUs.
        split: "patient", "paper" or "official".
        per_class: images chosen for each label.
        seed: of the choice of images, the split, the weights, dropout and the batches.
        name: of the run folder; by default <model>-ep<epochs>-lr<lr>.
        folder: where run folders lie.
        checkpoint_every: epochs between checkpoints; by default as often as costs 5% of the time.
        feature_cache: run the frozen part of a network once per image, not once per epoch; the
            result is the same.
    """

    model: str
    data: str | None = None
    epochs: int = 30
    lr: float = 5e-4
    batch_size: int = 16
    loss: str = "bce"
    weights: str | None = None
    fine_tune: str | int | None = None
    precision: str = "float32"
    split: str = sampling.DEFAULT_SPLIT
    per_class: int = sampling.PER_CLASS
    seed: int = 42
    name: str | None = None
    folder: str = RUNS_FOLDER
    checkpoint_every: int | None = None
    feature_cache: bool = True

    def __post_init__(self) -> None:
        for field in ("epochs", "batch_size", "per_class"):
            if getattr(self, field) < 1:
                raise CxrError(f"{field} must be 1 or more. Received: {getattr(self, field)}.")
        if not 0 < self.lr < float("inf"):
            raise CxrError(f"The learning rate must be above 0. Received: {self.lr}.")
        if self.precision not in PRECISIONS:
            raise CxrError(
                f"There is no precision {self.precision!r}. Choose one of: {', '.join(PRECISIONS)}."
            )
        if self.seed < 0:
            raise CxrError(f"The seed must be 0 or more. Received: {self.seed}.")

    @property
    def run_folder(self) -> Path:
        """Where this run's files go."""
        default = f"{self.model}-ep{self.epochs}-lr{self.lr:g}"
        return Path(self.folder) / (self.name or default)

    def settings(self) -> dict[str, Any]:
        """The values that a resumed run must share."""
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in ("name", "folder", "checkpoint_every")
        }
