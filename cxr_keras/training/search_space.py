"""Which numbers of a recipe `tune` tries, and where nothing was said of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from cxr_keras.data.options import AUGMENTATIONS
from cxr_keras.models.registry import get_spec
from cxr_keras.training.config import TrainConfig

# Each asks an optuna.Trial for a value
_SEARCHED: dict[str, Callable[[Any, str], Any]] = {
    "lr": lambda trial, name: trial.suggest_float(name, 1e-4, 3e-3, log=True),
    "weight_decay": lambda trial, name: trial.suggest_float(name, 1e-3, 0.3, log=True),
    "layer_decay": lambda trial, name: trial.suggest_float(name, 0.6, 1.0, step=0.1),
    "label_smoothing": lambda trial, name: trial.suggest_float(name, 0.0, 0.1, step=0.02),
    "ema": lambda trial, name: trial.suggest_categorical(name, (0.0, 0.99, 0.999)),
    "augment": lambda trial, name: trial.suggest_categorical(name, AUGMENTATIONS),
    "flip": lambda trial, name: trial.suggest_categorical(name, (False, True)),
    "mixup": lambda trial, name: trial.suggest_float(name, 0.0, 0.4, step=0.1),
}
CATEGORIES = ("ema", "augment", "flip")  # of a few values with nothing between them
_OF_IMAGES = ("augment", "flip", "mixup")  # they change them, so that no feature cache serves


def searched(config: TrainConfig, said: Collection[str], *, pretrained: bool) -> tuple[str, ...]:
    """The settings of a training that are searched, in a fixed order.

    Args:
        config: with what was said, and of all else the recipe.
        said: the settings that a person gave: they stay as they are.
        pretrained: whether the network starts from weights that are no random ones.
    """
    left_out = set(said)
    if config.optimizer == "adam":
        left_out.add("weight_decay")  # which it has not
    blocks = get_spec(config.model).blocks
    if not (pretrained and blocks) or config.fine_tune is None:
        left_out.add("layer_decay")  # all layers are new, of no known blocks, or the head's alone
    if pretrained and config.fine_tune is None and config.feature_cache:
        left_out.update(_OF_IMAGES)
    if config.boxes:
        left_out.add("mixup")  # which does not go with them
    return tuple(name for name in _SEARCHED if name not in left_out)


def suggest(trial: Any, names: Collection[str]) -> dict[str, Any]:
    """A trial's values of the settings `names`, as `TrainConfig` takes them."""
    return {name: _SEARCHED[name](trial, name) for name in names}


def value_text(value: Any) -> str:
    """A setting's value for people: "yes", "0.00042", "strong"."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def settings_text(values: Mapping[str, Any]) -> str:
    """The settings of a trial for people: "lr 0.00042, flip yes"."""
    named = [f"{name.replace('_', ' ')} {value_text(value)}" for name, value in values.items()]
    return ", ".join(named)
