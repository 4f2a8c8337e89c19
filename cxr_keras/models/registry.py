"""One decorated function is a network: the command line, training and tests find it by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras

from cxr_keras.errors import ModelError
from cxr_keras.framing import FIT, SIZE, Fit, Framing
from cxr_keras.models.blocks import input_stem, sigmoid_head
from cxr_keras.models.initial_weights import draw_as_torch
from cxr_keras.models.weights import Pretrained, imagenet_file, load_state_dict, port
from cxr_keras.utils.arguments import PathLike

Body = Callable[[keras.KerasTensor], keras.KerasTensor]

IMAGENET, RANDOM = "imagenet", "none"  # what `weights` may say, besides a path

# modules of this package that register networks
_FAMILIES = ("alexnet", "convnext", "densenet", "efficientnet", "keras_cv", "resnet", "vgg")
_REGISTRY: dict[str, ModelSpec] = {}


@dataclass(frozen=True)
class ModelSpec:
    """A registered network.

    Attributes:
        name: what `--model` and `build_model` call it.
        body: normalised radiographs (N, size, size, 3), 224 by default → features (N, D); it
            takes any size from 64 up.
        source: where the network comes from, for people.
        blocks: prefixes of layer names, from input to output. A block is what `--fine-tune N`
            counts: the layers called by its name, or by its name and "_…".
        pretrained: PyTorch's weights for the body, None if there are none.
        grey: its body takes one channel, (N, 224, 224, 1), see `blocks.input_stem`.
        recipe: how it trains if nobody says otherwise, see `cxr_keras.training.recipes`.
        map_layer: whose maps heat maps are of if nobody says otherwise; None: the last before
            pooling.
    """

    name: str
    body: Body
    source: str
    blocks: tuple[str, ...] = ()
    pretrained: Pretrained | None = None
    grey: bool = False
    recipe: str = "report"
    map_layer: str | None = None

    @property
    def default_weights(self) -> str:
        """What training starts from if nobody says otherwise: "imagenet" or "none"."""
        return IMAGENET if self.pretrained else RANDOM

    def block_of(self, layer_name: str) -> str | None:
        """The block that a layer belongs to; None for the head and what lies between blocks."""
        for block in self.blocks:
            if layer_name == block or layer_name.startswith(f"{block}_"):
                return block
        return None


def register_model(
    *,
    source: str,
    blocks: tuple[str, ...] = (),
    pretrained: Pretrained | None = None,
    grey: bool = False,
    recipe: str = "report",
    map_layer: str | None = None,
) -> Callable[[Body], Body]:
    """Register the decorated function as a network under its own name.

    Args:
        source: where the network comes from, for people.
        blocks: prefixes of its layer names, from input to output (see `ModelSpec`).
        pretrained: PyTorch's weights for it.
        grey: it takes one channel in place of three (see `ModelSpec`).
        recipe: how it trains if nobody says otherwise: "report" or "modern".
        map_layer: name of the layer whose heat maps point best, if it is not the last before
            pooling; measure it with `experiments/localization.py`.

    Example:
        >>> import keras
        >>> from cxr_keras import build_model, register_model
        >>> @register_model(source="a first try", blocks=("conv1",))
        ... def tiny(x):
        ...     x = keras.layers.Conv2D(8, 3, strides=4, name="conv1")(x)
        ...     return keras.layers.GlobalAveragePooling2D(name="pool")(x)
        >>> build_model("tiny").count_params()
        359
    """

    def register(body: Body) -> Body:
        name = body.__name__
        if name in _REGISTRY:
            raise ValueError(f"Two networks are called {name!r}; rename one of the functions.")
        _REGISTRY[name] = ModelSpec(name, body, source, blocks, pretrained, grey, recipe, map_layer)
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


def find_spec(name: str) -> ModelSpec | None:
    """The network called `name`, None if there is none."""
    _load_families()
    return _REGISTRY.get(name)


def build_model(
    name: str,
    weights: PathLike | None = None,
    *,
    outputs: int = 15,
    size: int = SIZE,
    fit: Fit = FIT,
) -> keras.Model:
    """Build a network: raw grey pixels (N, side, side, 1) in 0…255 → (N, outputs) probabilities.

    The side is that of `Framing(size, fit).stored`: 256 by default, of which it sees 224.

    Args:
        name: a registered network, see `cxr-keras models`.
        weights: of the body: None (or "none") for random ones, "imagenet" for PyTorch's,
            fetched once or from the extra `imagenet`, or the path of such a `.pth`. The head is
            always new.
        outputs: labels to predict; NIH ChestX-ray14 has 15.
        size: side in pixels of what the network sees, 64…1024.
        fit: "crop" for images whose rim the network cuts off, "whole" for whole ones.

    Returns:
        An uncompiled functional `keras.Model` of built-in layers only.

    Raises:
        ModelError: no such network, or no such weights for it.
        CxrError: there is no such size or fit.

    Example:
        >>> from cxr_keras import build_model
        >>> build_model("alexnet_custom").output_shape
        (None, 15)
    """
    spec, framing = get_spec(name), Framing(size, fit)
    file = _weights_file(spec, weights)
    state_dict = load_state_dict(file) if file else {}
    model = _network(spec, outputs, framing)
    draw_as_torch(model)
    if file and spec.pretrained:
        port(model, spec.pretrained, state_dict, origin=file)
    return model


def count_parameters(name: str, *, size: int = SIZE, fit: Fit = FIT) -> int:
    """Parameters of a network, without giving them memory.

    Raises:
        ModelError: no such network, or it needs an extra that is not installed.
    """
    with keras.device("meta" if keras.backend.backend() == "torch" else "cpu"):
        return int(_network(get_spec(name), 15, Framing(size, fit)).count_params())


def _network(spec: ModelSpec, outputs: int, framing: Framing) -> keras.Model:
    pixels, x = input_stem(framing, grey=spec.grey)
    return keras.Model(pixels, sigmoid_head(spec.body(x), outputs), name=spec.name)


def _weights_file(spec: ModelSpec, weights: PathLike | None) -> Path | None:
    if weights in (None, RANDOM):
        return None
    if spec.pretrained is None:
        raise ModelError(
            f"{spec.name} has no pretrained weights. Received: weights={str(weights)!r}; use none."
        )
    return imagenet_file(spec.pretrained) if weights == IMAGENET else Path(str(weights))


def _load_families() -> None:
    for family in _FAMILIES:
        importlib.import_module(f"cxr_keras.models.{family}")
