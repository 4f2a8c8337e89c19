"""Choices of a training that the command line shows; this module imports nothing heavy."""

from __future__ import annotations

from cxr_keras.data.options import SplitMethod
from cxr_keras.data.reading import ReadSettings
from cxr_keras.framing import Fit
from cxr_keras.utils.arguments import PathLike, Real, Whole

AUTO = "auto"
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", AUTO)
OPTIMIZERS = ("adam", "adamw", "sgd")
SGD_MOMENTUM = 0.9
SCHEDULES = ("constant", "cosine", "one-cycle", "plateau")
MONITORS = ("val_loss", "val_auroc", "val_ap")
TUNE_TRIALS = 20


class Settings(ReadSettings, total=False):
    """The fields of `TrainConfig` and `Reading` as users pass them; None is the recipe's."""

    recipe: str | None
    epochs: Whole | None
    lr: Real | None
    batch_size: Whole | None
    loss: str | None
    weights: PathLike | None
    fine_tune: str | Whole | None
    precision: str | None
    optimizer: str | None
    weight_decay: Real | None
    clip_norm: Real | None
    accumulate: Whole | None
    schedule: str | None
    warmup: Real | None
    body_lr: Real | None
    layer_decay: Real | None
    head_epochs: Whole | None
    ema: Real | None
    dropout: Real | None
    augment: str | None
    flip: bool | None
    mixup: Real | None
    label_smoothing: Real | None
    sampler: str | None
    boxes: PathLike | None
    box_weight: Real | None
    monitor: str | None
    early_stop: Whole | None
    split_method: SplitMethod | None
    per_class: str | Whole | None
    val_share: Real | None
    test_share: Real | None
    seed: Whole | None
    data_seed: Whole | None
    size: Whole | None
    fit: Fit | None
    name: str | None
    folder: PathLike | None
    checkpoint_every: Whole | None
    feature_cache: bool | None
    sync_batch_norm: bool | None
    deterministic: bool | None
    provenance: bool | None


LOGS = ("csv", "tensorboard", "mlflow")  # where a training can be watched
