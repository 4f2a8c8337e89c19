"""`TrainConfig`: everything that decides a run, checked before anything is done."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr_keras.data.options import (
    AUGMENTATIONS,
    NO_AUGMENTATION,
    SAMPLERS,
    SEED,
    SPLIT_METHODS,
    VAL_SHARE,
    SplitMethod,
    images_per_class,
    split_shares,
)
from cxr_keras.data.reading import Data, Reading, as_data
from cxr_keras.errors import CxrError
from cxr_keras.framing import FIT, SIZE, Fit, Framing
from cxr_keras.runs.options import RUNS_FOLDER
from cxr_keras.training.losses import check_loss
from cxr_keras.training.options import MONITORS, OPTIMIZERS, PRECISIONS, SCHEDULES
from cxr_keras.training.recipes import RECIPES, REPORT, check_recipe
from cxr_keras.utils.arguments import PathLike, as_text, real, whole
from cxr_keras.utils.files import part_of_file_name


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run. The same values on the same machine: the same weights.

    The defaults are the report's recipe; `configured` takes those of the recipe that was named.

    Attributes:
        model: a registered network.
        recipe: "report" or "modern": where the settings come from that nobody named.
        data: a data folder, a `Dataset`, or several; None for the default (see `resolve_data`).
        reading: how the data is read.
        epochs: passes over the training split.
        lr: learning rate; a schedule's highest.
        batch_size: images in a step.
        loss: one of `cxr_keras.training.losses.LOSSES`.
        weights: "imagenet", "none", a torchvision `.pth`, or a run folder or `.keras` file of the
            same network; None for "imagenet" where the network has such weights.
        fine_tune: of pretrained weights: None (or "head") trains the head alone, a number the last
            blocks too, "all" everything.
        precision: "float32", "mixed_bfloat16", "mixed_float16"; "auto" takes mixed_bfloat16 where
            the processor or the GPU computes in it, else float32.
        optimizer: "adam", "adamw" or "sgd" (momentum 0.9).
        weight_decay: share of a kernel that each step takes off, times the learning rate; biases
            and batch normalisation keep theirs. 0 for none.
        clip_norm: the largest norm of a step's gradient over all weights; 0 for no limit.
        accumulate: batches whose gradients are averaged for one step.
        schedule: of the learning rate: "constant"; "cosine", from 0 up over `warmup` and down to
            0; "one-cycle", from lr / 25 up over 30% of the steps and down to 0; "plateau", a tenth
            of it whenever the monitored value has not become better for 3 epochs.
        warmup: share of all steps in which "cosine" climbs.
        body_lr: learning rate of all but the head; None for the same.
        layer_decay: factor of the rate from each block to the one before it; 1 for none.
        head_epochs: epochs at the beginning in which the head trains alone.
        ema: momentum of the average of the weights over the steps, which is what is measured and
            kept; 0 for none. The momentum grows to that over the first steps. The average's batch
            normalisation statistics are counted anew.
        dropout: rate of the network's dropout layers; None for the network's own.
        augment: "none", "light" or "strong", see `cxr_keras.data.augmentation.STRENGTHS`.
        flip: mirror every other image in training.
        mixup: α of mixup, 0 for none.
        label_smoothing: training takes half of it from each 1 and adds it to each 0.
        sampler: "uniform" or "balanced", which draws rare labels as often as frequent ones.
        boxes: a list of boxes as NIH's `BBox_List_2017.csv`: an additional loss asks the maps of
            training images that have some to lie in them (see `training.attention`).
        box_weight: of that loss.
        monitor: what the kept epoch is best in: "val_loss", "val_auroc" or "val_ap" (the means
            over the labels with both classes).
        early_stop: epochs without a better one after which training ends; 0 for never.
        split_method: "patient", "paper" or "official".
        per_class: images chosen for each label, or "all"; None, not given, becomes 300, and stays
            None (every image) for the official split.
        val_share: validation's share of the images that are not test, above 0 and below 1.
        test_share: the test split's share of the chosen images, below 1; 0 for no test split.
            None, not given, becomes 0.2, and stays None for the official split (NIH's list).
        seed: of the weights, dropout, augmentation and the batches.
        data_seed: of the choice of images and the split.
        size: side in pixels of what the network sees, 64…1024.
        fit: "crop" for the centre square, "whole" for all of the image (see `Framing`).
        name: of the run folder; by default <model>-ep<epochs>-lr<lr> and a short word for each
            setting that is not the recipe's.
        folder: where run folders lie.
        checkpoint_every: epochs between checkpoints; by default as often as costs 5% of the time.
        feature_cache: run the frozen part of a network once per image, not once per epoch; the
            result is the same.
        sync_batch_norm: of several processes: batch normalisation takes the statistics of the whole
            batch, and not each process those of its share.
        deterministic: the same seed gives the same weights on a CUDA GPU too, at the cost of speed;
            on a CPU it does anyway. Torch only.
        provenance: list the images of training and validation in model.keras, as salted digests.
    """

    model: str
    recipe: str = REPORT
    data: Data | None = None
    reading: Reading = dataclasses.field(default_factory=Reading)
    epochs: int = 30
    lr: float = 5e-4
    batch_size: int = 16
    loss: str = "bce"
    weights: PathLike | None = None
    fine_tune: str | int | None = None
    precision: str = "float32"
    optimizer: str = "adam"
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    accumulate: int = 1
    schedule: str = "constant"
    warmup: float = 0.05
    body_lr: float | None = None
    layer_decay: float = 1.0
    head_epochs: int = 0
    ema: float = 0.0
    dropout: float | None = None
    augment: str = NO_AUGMENTATION
    flip: bool = False
    mixup: float = 0.0
    label_smoothing: float = 0.0
    sampler: str = "uniform"
    boxes: PathLike | None = None
    box_weight: float = 0.1
    monitor: str = "val_loss"
    early_stop: int = 0
    split_method: SplitMethod = "patient"
    per_class: int | str | None = None
    val_share: float = VAL_SHARE
    test_share: float | None = None
    seed: int = SEED
    data_seed: int = SEED
    size: int = SIZE
    fit: Fit = FIT
    name: str | None = None
    folder: PathLike = RUNS_FOLDER
    checkpoint_every: int | None = None
    feature_cache: bool = True
    sync_batch_norm: bool = False
    deterministic: bool = False
    provenance: bool = True

    def __post_init__(self) -> None:
        take: dict[str, Any] = {name: as_text(getattr(self, name)) for name in _PATHS}
        take["data"] = _data(self.data)
        take["fine_tune"] = None if self.fine_tune == "head" else self.fine_tune
        take["size"] = Framing(self.size, self.fit).size
        for name, least in _WHOLE.items():
            value = take.get(name, getattr(self, name))
            if value is not None and not isinstance(value, str):
                take[name] = whole(name, value, at_least=least)
        for name, (from_, below) in _REAL.items():
            if getattr(self, name) is not None:
                take[name] = _within(name, real(name, getattr(self, name)), from_, below)
        for name, value in take.items():
            object.__setattr__(self, name, value)
        if not 0 < self.lr < math.inf:
            raise CxrError(f"The learning rate must be above 0. Received: {self.lr}.")
        check_loss(self.loss)
        check_recipe(self.recipe)
        for name, choices in _CHOICES.items():
            _one_of(name.replace("_", " "), getattr(self, name), choices)
        object.__setattr__(self, "per_class", images_per_class(self.per_class, self.split_method))
        shares = split_shares(self.val_share, self.test_share, self.split_method)
        for name, share in zip(("val_share", "test_share"), shares, strict=True):
            object.__setattr__(self, name, share)
        _check_fit(self)

    @property
    def run_folder(self) -> Path:
        """Where this run's files go."""
        return Path(self.folder) / (self.name or self._default_name())

    def settings(self) -> dict[str, Any]:
        """The values that a resumed run must share, as run.json holds them."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("name", "folder", "checkpoint_every"):
            del values[name]
        values["data"] = _told(self.data)
        values |= {name: _plain(value) for name, value in values.pop("reading").said().items()}
        values["split"] = values.pop("split_method")  # its name in run.json
        return values

    def _default_name(self) -> str:
        """The network, epochs, learning rate, and what else of these is not the recipe's."""
        words = {
            "recipe": self.recipe,
            "loss": self.loss,
            "seed": f"seed{self.seed}",
            "data_seed": f"dataseed{self.data_seed}",
            "split_method": self.split_method,
            "val_share": f"val{self.val_share:g}",
            "test_share": f"test{self.test_share or 0:g}",
            "weights": "random" if self.weights == "none" else weights_name(self.weights or ""),
            "fine_tune": f"ft{self.fine_tune or 'head'}" if self.is_pretrained() else "",
            "size": f"size{self.size}",
            "fit": self.fit,
            "optimizer": self.optimizer,
            "weight_decay": f"decay{self.weight_decay:g}",
            "schedule": self.schedule,
            "augment": f"augment-{self.augment}",
            "flip": "flip" if self.flip else "noflip",
            "mixup": f"mixup{self.mixup:g}",
            "label_smoothing": f"smooth{self.label_smoothing:g}",
            "sampler": self.sampler,
            "boxes": "boxes",
            "box_weight": f"box{self.box_weight:g}",
            "monitor": self.monitor,
            "ema": f"ema{self.ema:g}",
            "body_lr": f"bodylr{self.body_lr or 0:g}",
            "layer_decay": f"layerdecay{self.layer_decay:g}",
            "head_epochs": f"head{self.head_epochs}",
            "dropout": f"dropout{self.dropout or 0:g}",
        }
        usual = {name: getattr(TrainConfig, name) for name in words} | RECIPES[self.recipe]
        usual["test_share"] = split_shares(self.val_share, None, self.split_method)[1]
        changed = [
            word for name, word in words.items() if word and getattr(self, name) != usual[name]
        ]
        read = [word for name, word in self.reading.words().items() if name in _READ]
        parts = [self.model, f"ep{self.epochs}", f"lr{self.lr:g}", *changed, *read]
        return part_of_file_name("-".join(parts))

    def is_pretrained(self) -> bool:
        """Whether the network starts from weights that are no random ones."""
        from cxr_keras.models.registry import RANDOM, find_spec  # imports Keras

        spec = find_spec(self.model)
        return spec is not None and (self.weights or spec.default_weights) != RANDOM


def configured(model: str, recipe: str, settings: Mapping[str, Any]) -> TrainConfig:
    """A network's configuration: what was said, and of all else the recipe.

    Args:
        model: a registered network, or the name of a built one.
        recipe: where nobody names one in `settings`.
        settings: fields of `TrainConfig` and of `Reading`; None stands for "not said".

    Raises:
        CxrError: no such setting or recipe, a value that cannot be used, or two that do not fit.
    """
    reading, settings = Reading.of(dict(settings))
    known = {field.name for field in dataclasses.fields(TrainConfig)} - {"reading"}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise CxrError(
            f"A training has no setting {unknown[0]!r}. Choose from: {', '.join(sorted(known))}."
        )
    said = {name: value for name, value in settings.items() if value is not None}
    recipe = said.pop("recipe", recipe)
    check_recipe(recipe)
    usual = dict(RECIPES[recipe])
    if said.get("split_method") == "official":
        usual.pop("per_class", None)  # which takes every image anyway
    return TrainConfig(model=model, recipe=recipe, reading=reading, **(usual | said))


_PATHS = ("weights", "folder", "boxes")
_WHOLE = {
    "epochs": 1,
    "batch_size": 1,
    "per_class": 1,
    "checkpoint_every": 1,
    "fine_tune": 1,
    "accumulate": 1,
    "head_epochs": 0,
    "early_stop": 0,
    "seed": 0,
    "data_seed": 0,
}
_REAL = {  # from, below
    "lr": (-math.inf, math.inf),
    "body_lr": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "clip_norm": (0.0, math.inf),
    "mixup": (0.0, math.inf),
    "box_weight": (0.0, math.inf),
    "warmup": (0.0, 1.0),
    "ema": (0.0, 1.0),
    "label_smoothing": (0.0, 1.0),
    "dropout": (0.0, 1.0),
    "layer_decay": (0.0, math.inf),
}
_READ = ("uncertain", "views", "labels")  # of the reading, in the name of a run folder
_CHOICES: dict[str, tuple[str, ...]] = {
    "precision": PRECISIONS,
    "split_method": SPLIT_METHODS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "augment": AUGMENTATIONS,
    "sampler": SAMPLERS,
    "monitor": MONITORS,
}


def _check_fit(config: TrainConfig) -> None:
    """Refuse settings each of which is good, and which together are not."""
    if config.head_epochs >= config.epochs:
        raise CxrError(
            f"--head-epochs {config.head_epochs} leaves none of the {config.epochs} epochs for the "
            "rest of the network. Give fewer, or more --epochs."
        )
    if config.weight_decay and config.optimizer == "adam":
        raise CxrError(
            f"Adam has no weight decay here, and {config.weight_decay:g} was given. Give "
            "--optimizer adamw or sgd, or leave --weight-decay out."
        )
    if config.schedule != "cosine" and config.warmup != TrainConfig.warmup:
        raise CxrError(
            f"--warmup {config.warmup:g} is of --schedule cosine, and this one is "
            f"{config.schedule}. Leave it out, or give that schedule."
        )
    if config.mixup and config.batch_size == 1:
        raise CxrError(
            "Mixup lays images of a batch over each other, and --batch-size 1 has only one. Add "
            "--mixup 0, or give a larger batch."
        )
    if config.boxes and config.mixup:
        raise CxrError(
            "--boxes does not go with mixup, which lays images over each other. Add --mixup 0."
        )
    if not config.boxes and config.box_weight != TrainConfig.box_weight:
        raise CxrError(
            f"--box-weight {config.box_weight:g} weighs the boxes of --boxes, and there are none. "
            "Give both, or neither."
        )
    if config.layer_decay > 1:
        raise CxrError(f"layer_decay must be 1 or less. Received: {config.layer_decay:g}.")


def _data(data: Data | None) -> Any:
    """One data set as text or a `Dataset`, several as a tuple of them; None where nobody says."""
    told = tuple(
        os.fspath(one) if isinstance(one, str | os.PathLike) else one for one in as_data(data)
    )
    return told[0] if len(told) == 1 else told or None


def _told(data: Any) -> Any:
    """Data as run.json holds it."""
    told = [
        str(one) if isinstance(one, str | os.PathLike) else str(one.root) for one in as_data(data)
    ]
    return told[0] if len(told) == 1 else told or None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _within(name: str, value: float, least: float, limit: float) -> float:
    if not least <= value < limit and not math.isinf(least):
        bounds = f"from {least:g} on" if math.isinf(limit) else f"from {least:g} to below {limit:g}"
        raise CxrError(f"{name} must be a number {bounds}. Received: {value:g}.")
    return value


def weights_name(weights: PathLike) -> str:
    """What `weights` names, without its path: a run by its folder, a file without its suffix."""
    path = Path(weights)
    if not path.suffix[1:].isalpha():  # the ".0005" of a run's learning rate is no suffix
        return path.name
    in_run = path.name == "model.keras" and path.parent.name
    return path.parent.name if in_run else path.stem


def _one_of(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise CxrError(f"There is no {what} {value!r}. Choose one of: {', '.join(choices)}.")
