"""The same seed gives the same first weights on every backend.

Keras draws a kernel's first values from its backend's own generator, so that one seed means other
weights on JAX and TensorFlow than on torch. Torch's generator on the CPU is the Mersenne Twister,
which numpy has as well: here numpy draws what torch would have drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np


def draw_as_torch(model: keras.Model) -> None:
    """Give `model` the first weights that it would have on torch's CPU, in place.

    Kernels with `blocks.torch_uniform` or `torch_uniform_depthwise` are drawn anew from their own
    seeds, bit for bit as on torch; all else of a network (zeros, ones) is the same everywhere. On
    torch nothing is done.

    Args:
        model: a network as it was built; weights that were set since are lost.
    """
    if keras.backend.backend() == "torch":
        return
    for kernel, start, inputs in _uniform_kernels(model):
        limit = math.sqrt(3.0 * start.scale / inputs)
        values = _torch_rand(kernel.shape, start.seed)
        kernel.assign(np.float32(2 * limit) * values + np.float32(-limit))


def _uniform_kernels(model: keras.Model) -> Iterator[tuple[Any, Any, int]]:
    """Each kernel that starts uniform by its inputs, its initializer, and their number."""
    for layer in model.layers:
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        start = getattr(layer, "depthwise_initializer" if depthwise else "kernel_initializer", None)
        if isinstance(start, keras.initializers.VarianceScaling) and (
            (start.mode, start.distribution) == ("fan_out" if depthwise else "fan_in", "uniform")
        ):
            yield layer.kernel, start, math.prod(layer.kernel.shape[: 2 if depthwise else -1])


def _torch_rand(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """`torch.rand(shape)` of a generator with that seed: 24 bits of each draw, float32 in 0…1."""
    count = math.prod(shape)
    draws = np.frombuffer(np.random.RandomState(seed & 0xFFFFFFFF).bytes(4 * count), dtype="<u4")
    fractions = (draws & 0xFFFFFF).astype("float32") * np.float32(2.0**-24)
    return fractions.reshape(shape)
