"""One decorated function is a network: the command line, training and tests find it by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import keras

from cxr_keras.errors import ModelError
from cxr_keras.models import blocks

Body = Callable[[keras.KerasTensor], keras.KerasTensor]

_FAMILIES = ("alexnet",)  # modules of this package that register networks
_REGISTRY: dict[str, ModelSpec] = {}


@dataclass(frozen=True)
class ModelSpec:
    """A registered network.

    Attributes:
        name: what `--model` and `build_model` call it.
        body: normalised radiographs (N, 224, 224, 3) → features (N, D).
        source: where the network comes from, for people.
    """

    name: str
    body: Body
    source: str


def register_model(*, source: str) -> Callable[[Body], Body]:
    """Register the decorated function as a network under its own name.

    Example:
        >>> @register_model(source="a first try")
        ... def tiny(x):
        ...     x = keras.layers.Conv2D(8, 3, strides=4, name="conv1")(x)
        ...     return keras.layers.GlobalAveragePooling2D(name="pool")(x)
    """

    def register(body: Body) -> Body:
        name = body.__name__
        if name in _REGISTRY:
            raise ValueError(f"Two networks are called {name!r}; rename one of the functions.")
        _REGISTRY[name] = ModelSpec(name, body, source)
        return body

    return register


def list_models() -> list[ModelSpec]:
    """Every registered network, by name."""
    _load_families()
    return [_REGISTRY[name] for name in sorted(_REGISTRY)]


def get_spec(name: str) -> ModelSpec:
    """The network called `name`.

    Raises:
        ModelError: there is none; the message lists those there are.
    """
    names = [spec.name for spec in list_models()]
    if name not in names:
        raise ModelError(f"There is no network called {name!r}. Choose one of: {', '.join(names)}.")
    return _REGISTRY[name]


def build_model(name: str, weights: str | None = None) -> keras.Model:
    """Build a network: raw grey pixels (N, 256, 256, 1) in 0…255 → (N, 15) probabilities.

    Args:
        name: a registered network, see `cxr-keras models`.
        weights: None (or "none") for random weights.

    Returns:
        An uncompiled functional `keras.Model` of built-in layers only.

    Raises:
        ModelError: no such network, or no such weights for it.

    Example:
        >>> from cxr_keras import build_model
        >>> build_model("alexnet_custom").output_shape
        (None, 15)
    """
    spec = get_spec(name)
    if weights not in (None, "none"):
        raise ModelError(
            f"{name} has no pretrained weights. Received: weights={weights!r}; use none."
        )
    pixels, x = blocks.input_stem()
    return keras.Model(pixels, blocks.sigmoid_head(spec.body(x)), name=name)


def _load_families() -> None:
    for family in _FAMILIES:
        importlib.import_module(f"cxr_keras.models.{family}")
