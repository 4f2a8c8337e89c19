"""Weights of one network → another of the same architecture, by layer name."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from cxr_keras.errors import ModelError
from cxr_keras.models.blocks import LOGITS
from cxr_keras.models.registry import find_spec
from cxr_keras.utils.arguments import PathLike


def copy_body(source: keras.Model, target: keras.Model, *, origin: PathLike) -> None:
    """Copy the weights of every layer but the head from `source` into `target`, in place.

    The two may take images of other sizes: weights depend on it only behind a flatten. Nothing is
    copied unless everything fits.

    Args:
        source: a network of the same architecture, whatever its outputs.
        target: the network that takes its weights.
        origin: what to call `source` in an error.

    Raises:
        ModelError: it is an ensemble, another architecture, or of an image size that matters.
    """
    members = sum(isinstance(layer, keras.Model) for layer in source.layers)
    if members:
        raise ModelError(
            f"{origin} is an ensemble of {members} networks, and one network cannot start from "
            "several. Name one of its members."
        )
    ours, theirs = _body(target), {layer.name: layer for layer in source.layers}
    other_name = source.name != target.name and find_spec(source.name) is not None
    if other_name or not _has_body(source, theirs, ours):
        raise ModelError(
            f"{origin} holds the network {source.name}, whose weights do not fit "
            f"{target.name}. Train {source.name}, or start from a file of {target.name}."
        )
    for name, layer in ours.items():
        if _shapes(theirs[name]) != _shapes(layer):
            raise ModelError(_unlike(source, target, theirs[name], layer, origin))
    for name, layer in ours.items():
        layer.set_weights(theirs[name].get_weights())


def copy_head(source: keras.Model, target: keras.Model) -> bool:
    """Copy the weights of the head, as it was trained; False if `source` has none that fits."""
    heads = [layer for layer in source.layers if layer.name == LOGITS]
    into = target.get_layer(LOGITS)
    if not heads or _shapes(heads[0]) != _shapes(into):
        return False
    into.set_weights(heads[0].get_weights())
    return True


def _body(model: keras.Model) -> dict[str, keras.Layer]:
    """The layers with weights but the head, by name and from input to output."""
    return {layer.name: layer for layer in model.layers if layer.weights and layer.name != LOGITS}


def _has_body(
    source: keras.Model, theirs: Mapping[str, keras.Layer], ours: Mapping[str, keras.Layer]
) -> bool:
    """Whether `source` begins with these layers; whatever follows them is its head."""
    if not set(ours) <= set(theirs):
        return False
    if not ours:
        return True
    before = keras.Model(source.input, theirs[list(ours)[-1]].output).layers
    return {layer.name for layer in before if layer.weights} <= set(ours)


def _shapes(layer: keras.Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _unlike(
    source: keras.Model,
    target: keras.Model,
    theirs: keras.Layer,
    ours: keras.Layer,
    origin: PathLike,
) -> str:
    """Why a layer of the same name does not take the weights, and what to do."""
    fault = (
        f"the weights of its layer {ours.name} are {_shapes(theirs)[0]}, those of {target.name} "
        f"{_shapes(ours)[0]}"
    )
    size, wanted = source.input_shape[1], target.input_shape[1]
    if size == wanted:
        return f"{origin} does not fit: {fault}. Start from a file that this network wrote."
    return (
        f"{origin} was trained on images of {size} pixels, now they have {wanted}, and "
        f"{target.name} reads a flattened map: {fault}. Train at {size} pixels, or start from "
        "other weights."
    )
