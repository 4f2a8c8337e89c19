"""The rate of a network's dropout."""

from __future__ import annotations

import keras

from cxr_keras.errors import ModelError
from cxr_keras.models.blocks import all_layers


def set_dropout(model: keras.Model, rate: float | None) -> None:
    """Give every dropout layer of `model` the same rate, in place; None leaves them as they are.

    Raises:
        ModelError: it has none, or one that was built without randomness.
    """
    if rate is None:
        return
    found = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.Dropout)]
    if not found:
        raise ModelError(f"{model.name} has no dropout layer. Leave --dropout out.")
    fixed = [layer.name for layer in found if not hasattr(layer, "seed_generator")]
    if fixed and rate:
        raise ModelError(
            f"{fixed[0]} of {model.name} was built with a dropout of 0, and Keras cannot switch it "
            "on. Build the network with another rate, or leave --dropout out."
        )
    for layer in found:
        layer.rate = rate
