"""Calibrated probabilities as layers: one slope and one shift per label between logits and sigmoid.

Only layers of Keras's own, so that a file with them loads anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers
from numpy.typing import ArrayLike

from cxr_keras.errors import ModelError
from cxr_keras.models.blocks import LOGITS, PROBABILITIES

CALIBRATED_LOGITS = "calibrated_logits"
# layers of an ensemble: member1, weight1, …; resize2 where member 2 takes another size
MEAN, MEMBER, WEIGHT, RESIZE = "mean", "member", "weight", "resize"


def with_scaling(
    model: keras.Model, slope: ArrayLike | None = None, shift: ArrayLike | None = None
) -> keras.Model:
    """The same network with probabilities sigmoid(slope · logit + shift).

    Args:
        model: a network of this package or an ensemble. A scaling that it has already is replaced.
        slope: one per label, shape (n_labels,); None for the outputs as they were trained.
        shift: the same.

    Returns:
        A network that shares the layers of `model`; `model` itself where nothing changes.

    Raises:
        ModelError: it has no logits to scale.
    """
    names = {layer.name for layer in model.layers}
    if slope is None or shift is None:
        if CALIBRATED_LOGITS not in names:
            return model
        logits = logits_of(model)
    else:
        scale = layers.Rescaling(
            np.asarray(slope, dtype=float).tolist(),
            np.asarray(shift, dtype=float).tolist(),
            dtype="float32",
            name=CALIBRATED_LOGITS,
        )
        logits = scale(logits_of(model))
    sigmoid = layers.Activation("sigmoid", dtype="float32", name=PROBABILITIES)
    return keras.Model(model.input, sigmoid(logits), name=model.name)


def logits_of(model: keras.Model) -> keras.KerasTensor:
    """The logits (N, n_labels) of a network, before any scaling; of an ensemble those of its mean.

    Raises:
        ModelError: it ends neither as this package's networks do nor as an ensemble.
    """
    last = model.layers[-1]
    if last.name == PROBABILITIES and any(layer.name == LOGITS for layer in model.layers):
        return model.get_layer(LOGITS).output
    members = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if last.name != MEAN or not members:
        raise ModelError(
            f"{model.name} ends in {type(last).__name__} {last.name!r}, not in logits and a "
            "sigmoid, so its outputs cannot be scaled. Calibrate a network that `train` or "
            "`ensemble` wrote."
        )
    weights = [model.get_layer(member.name.replace(MEMBER, WEIGHT)).scale for member in members]
    parts = [
        keras.Model(member.input, calibrated_logits_of(member), name=member.name)(
            input_of(model, member)
        )
        for member in members
    ]
    return _logit_of_mean(parts, weights)


def input_of(ensemble: keras.Model, member: keras.Model) -> keras.KerasTensor:
    """What a member of an ensemble is given: the ensemble's input, scaled where it needs that."""
    name = member.name.replace(MEMBER, RESIZE)
    scales = any(layer.name == name for layer in ensemble.layers)
    return ensemble.get_layer(name).output if scales else ensemble.input


def calibrated_logits_of(model: keras.Model) -> keras.KerasTensor:
    """What goes into the sigmoid of a network: its logits, scaled where it is calibrated."""
    if any(layer.name == CALIBRATED_LOGITS for layer in model.layers):
        return model.get_layer(CALIBRATED_LOGITS).output
    return logits_of(model)


def mean_of(members: Sequence[keras.Model], weights: Sequence[float]) -> keras.Model:
    """One network whose probabilities are the weighted mean of its members'.

    It takes squares of the largest side that a member takes; a layer scales them for each member
    that takes smaller ones, antialiased and bilinear as images are scaled when they are read.

    Args:
        members: two or more networks.
        weights: one per member; they sum to 1.
    """
    side = max(network.input_shape[1] for network in members)
    pixels = keras.Input((side, side, 1), name="pixels")
    parts = []
    for number, (network, weight) in enumerate(zip(members, weights, strict=True), start=1):
        member = keras.Model(network.input, network.output, name=f"{MEMBER}{number}")
        taken, images = network.input_shape[1], pixels
        if taken != side:
            images = layers.Resizing(taken, taken, antialias=True, name=f"{RESIZE}{number}")(pixels)
        scale = layers.Rescaling(float(weight), name=f"{WEIGHT}{number}")
        parts.append(scale(member(images)))
    return keras.Model(pixels, layers.Add(name=MEAN)(parts), name="ensemble")


def _logit_of_mean(
    logits: Sequence[keras.KerasTensor], weights: Sequence[float]
) -> keras.KerasTensor:
    """Log p − log(1 − p) of p = Σ weight · sigmoid(logit), exact also where p rounds to 0 or 1."""
    kept = [(z, weight) for z, weight in zip(logits, weights, strict=True) if weight > 0]
    columns = [layers.Reshape((z.shape[-1], 1))(z) for z, _ in kept]
    stacked = layers.Concatenate(dtype="float32")(columns)  # (N, n_labels, n_members)
    shares = np.log([weight for _, weight in kept]).tolist()
    turned = layers.Rescaling(-1.0, dtype="float32")(stacked)
    return layers.Subtract(dtype="float32", name=LOGITS)(
        [_log_mean_sigmoid(stacked, shares), _log_mean_sigmoid(turned, shares)]
    )


def _log_mean_sigmoid(logits: keras.KerasTensor, shares: list[float]) -> keras.KerasTensor:
    """Log Σ exp(u) over the last axis, where u is log weight + log sigmoid(logit).

    No layer of Keras is a logarithm; but log softmax(u) is u − log Σ exp(u), and both it and u are
    largest in the same place.
    """
    u = layers.Activation("log_sigmoid", dtype="float32")(logits)
    u = layers.Rescaling(1.0, shares, dtype="float32")(u)
    relative = layers.Activation("log_softmax", dtype="float32")(u)
    largest = layers.GlobalMaxPooling1D(data_format="channels_first", dtype="float32")
    difference: keras.KerasTensor = layers.Subtract(dtype="float32")(
        [largest(u), largest(relative)]
    )
    return difference
