"""`TrainConfig`: everything that decides a run, checked before anything is done."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr_keras.data.options import SEED, SPLIT_METHODS, SplitMethod, images_per_class
from cxr_keras.errors import CxrError
from cxr_keras.runs.options import RUNS_FOLDER
from cxr_keras.training.losses import check_loss
from cxr_keras.utils.arguments import PathLike, as_text, real, whole

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run. The same values on the same machine: the same weights.

    Attributes:
        model: a registered network.
        data: a folder in NIH's layout; None for the default (see `resolve_data`).
        epochs: passes over the training split.
        lr: learning rate of Adam.
        batch_size: images in a step.
        loss: one of `cxr_keras.training.losses.LOSSES`.
        weights: "imagenet", "none", a torchvision `.pth`, or a run folder or `.keras` file of the
            same network; None for "imagenet" where the network has such weights.
        fine_tune: of pretrained weights: None trains the head alone, a number the last blocks
            too, "all" everything.
        precision: "float32", "mixed_bfloat16" or "mixed_float16".
        split_method: "patient", "paper" or "official".
        per_class: images chosen for each label; None, not given, becomes 300, and stays None (every
            image) for the official split.
        seed: of the weights, dropout and the batches.
        data_seed: of the choice of images and the split.
        name: of the run folder; by default <model>-ep<epochs>-lr<lr> and a short word for each of
            loss, seeds, split method, weights and fine-tuning that is not the default.
        folder: where run folders lie.
        checkpoint_every: epochs between checkpoints; by default as often as costs 5% of the time.
        feature_cache: run the frozen part of a network once per image, not once per epoch; the
            result is the same.
        deterministic: the same seed gives the same weights on a CUDA GPU too, at the cost of speed;
            on a CPU it does anyway. Torch only.
        provenance: list the images of training and validation in model.keras, as salted digests.
    """

    model: str
    data: PathLike | None = None
    epochs: int = 30
    lr: float = 5e-4
    batch_size: int = 16
    loss: str = "bce"
    weights: PathLike | None = None
    fine_tune: str | int | None = None
    precision: str = "float32"
    split_method: SplitMethod = "patient"
    per_class: int | None = None
    seed: int = SEED
    data_seed: int = SEED
    name: str | None = None
    folder: PathLike = RUNS_FOLDER
    checkpoint_every: int | None = None
    feature_cache: bool = True
    deterministic: bool = False
    provenance: bool = True

    def __post_init__(self) -> None:
        take: dict[str, Any] = {
            "data": as_text(self.data),
            "weights": as_text(self.weights),
            "folder": as_text(self.folder),
            "lr": real("lr", self.lr),
            "seed": whole("seed", self.seed, at_least=0),
            "data_seed": whole("data_seed", self.data_seed, at_least=0),
        }
        for name in ("epochs", "batch_size", "per_class", "checkpoint_every", "fine_tune"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                take[name] = whole(name, value, at_least=1)
        for name, value in take.items():
            object.__setattr__(self, name, value)
        if not 0 < self.lr < math.inf:
            raise CxrError(f"The learning rate must be above 0. Received: {self.lr}.")
        check_loss(self.loss)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("split method", self.split_method, SPLIT_METHODS)
        object.__setattr__(self, "per_class", images_per_class(self.per_class, self.split_method))

    @property
    def run_folder(self) -> Path:
        """Where this run's files go."""
        return Path(self.folder) / (self.name or self._default_name())

    def settings(self) -> dict[str, Any]:
        """The values that a resumed run must share, as run.json holds them."""
        values = dataclasses.asdict(self)
        for name in ("name", "folder", "checkpoint_every"):
            del values[name]
        values["split"] = values.pop("split_method")  # its name in run.json
        return values

    def _default_name(self) -> str:
        """The network, epochs, learning rate, and what else of these is not the default."""
        words = {
            "loss": self.loss,
            "seed": f"seed{self.seed}",
            "data_seed": f"dataseed{self.data_seed}",
            "split_method": self.split_method,
            "weights": "random" if self.weights == "none" else weights_name(self.weights or ""),
            "fine_tune": f"ft{self.fine_tune}",
        }
        changed = [
            w for name, w in words.items() if getattr(self, name) != getattr(TrainConfig, name)
        ]
        parts = [self.model, f"ep{self.epochs}", f"lr{self.lr:g}", *changed]
        return re.sub(r"[^\w.-]+", "_", "-".join(parts))


def weights_name(weights: PathLike) -> str:
    """What `weights` names, without its path: a run by its folder, a file without its suffix."""
    path = Path(weights)
    if not path.suffix[1:].isalpha():  # the ".0005" of a run's learning rate is no suffix
        return path.name
    in_run = path.name == "model.keras" and path.parent.name
    return path.parent.name if in_run else path.stem


# For arguments as Python users pass them: the numbers may be numpy's, and become Python's.
configure: Callable[..., TrainConfig] = TrainConfig


def _one_of(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise CxrError(f"There is no {what} {value!r}. Choose one of: {', '.join(choices)}.")
