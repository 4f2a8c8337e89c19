"""A network that a user built, brought into the form that training wants."""

from __future__ import annotations

from typing import Any

import keras

from cxr_keras.errors import CxrError, ModelError
from cxr_keras.framing import DEFAULT_FRAMING, Fit, Framing
from cxr_keras.models.blocks import CENTRE_CROP, LOGITS, PROBABILITIES
from cxr_keras.models.scaling import with_scaling
from cxr_keras.utils.arguments import Whole


def framing_of(model: keras.Model, size: Whole | None = None, fit: Fit | None = None) -> Framing:
    """How images are framed for a network that a user built: its input decides.

    Args:
        model: raw grey pixels (N, side, side, 1) → …
        size: what it must be; None for what follows from the input.
        fit: None for "crop" where the network takes 256 pixels or crops its input by this package's
            layer, for "whole" where it does neither.

    Raises:
        ModelError: it takes something else, of no size that there is, or `size` or `fit`
            contradict it.
    """
    shape: Any = getattr(model, "input_shape", None)
    side = shape[1] if isinstance(shape, tuple) and len(shape) == 4 else None
    if side is None or shape[1:] != (side, side, 1):
        raise ModelError(
            "A network for training must take (N, side, side, 1), grey squares of one size. "
            f"Received: {model.name} with {shape}."
        )
    crops = any(layer.name == CENTRE_CROP for layer in model.layers)
    if fit is None:
        fit = "crop" if crops or side == DEFAULT_FRAMING.stored else "whole"
    try:
        found = Framing(round(side * 7 / 8) if fit == "crop" else side, fit)
    except CxrError as error:
        raise ModelError(f"{model.name} takes {side}×{side} pixels: {error}") from error
    if found.stored != side or (crops and fit == "whole"):
        other = "crop" if fit == "whole" else "whole"
        raise ModelError(
            f"{model.name} takes {side}×{side} pixels{' and crops them' if crops else ''}, which "
            f"is no size of fit={fit!r}. Give fit={other!r}, or build it for another size."
        )
    if size is not None and size != found.size:
        raise ModelError(
            f"{model.name} takes {side}×{side} pixels, which is size {found.size} with fit="
            f"{fit!r}. Received: size={size}. Leave size out, or build the network for it."
        )
    return found


def with_logits(model: keras.Model, outputs: int) -> keras.Model:
    """The same network, with a layer "logits" of its own before the sigmoid.

    Args:
        model: raw grey pixels → (N, outputs) sigmoids; one of this package's, or any functional
            network that ends in a dense layer with a sigmoid.
        outputs: how many labels it must predict.

    Returns:
        `model` itself where it has that layer (a calibrated one without its scaling); else a
        network that shares all its layers but the last, whose weights are copied.

    Raises:
        ModelError: it gives something else, or does not end in a sigmoid.
    """
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or shape[1:] != (outputs,):
        raise ModelError(
            f"A network for training must give (N, {outputs}). Received: {model.name} with {shape}."
        )
    last = model.layers[-1]
    if last.name == PROBABILITIES and any(layer.name == LOGITS for layer in model.layers):
        return with_scaling(model)
    if not isinstance(last, keras.layers.Dense) or last.activation is not keras.activations.sigmoid:
        raise ModelError(
            f'A network for training must end in Dense({outputs}, activation="sigmoid"). '
            f"Received: {model.name}, which ends in {type(last).__name__} {last.name!r}."
        )
    config = last.get_config() | {"name": LOGITS, "activation": "linear"}
    dense = keras.layers.Dense.from_config(config)
    logits = dense(last.input)
    dense.set_weights(last.get_weights())
    sigmoid = keras.layers.Activation("sigmoid", dtype="float32", name=PROBABILITIES)
    return keras.Model(model.input, sigmoid(logits), name=model.name)
