"""A network that a user built, brought into the form that training wants."""

from __future__ import annotations

import keras

from cxr_keras.errors import ModelError
from cxr_keras.models.blocks import INPUT_SIZE, LOGITS, PROBABILITIES
from cxr_keras.models.scaling import with_scaling


def with_logits(model: keras.Model, outputs: int) -> keras.Model:
    """The same network, with a layer "logits" of its own before the sigmoid.

    Args:
        model: raw grey pixels (N, 256, 256, 1) in 0…255 → (N, outputs) sigmoids; one of this
            package's, or any functional network that ends in a dense layer with a sigmoid.
        outputs: how many labels it must predict.

    Returns:
        `model` itself where it has that layer (a calibrated one without its scaling); else a
        network that shares all its layers but the last, whose weights are copied.

    Raises:
        ModelError: it takes or gives something else, or does not end in a sigmoid.
    """
    wanted = (INPUT_SIZE, INPUT_SIZE, 1), (outputs,)
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if any(
        not isinstance(shape, tuple) or shape[1:] != size
        for shape, size in zip(shapes, wanted, strict=True)
    ):
        raise ModelError(
            f"A network for training must take (N, {INPUT_SIZE}, {INPUT_SIZE}, 1) and give "
            f"(N, {outputs}). Received: {model.name} with {shapes[0]} and {shapes[1]}."
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
