"""Adaptive average pooling, of layers that every Keras from 3.11.3 on has.

Keras's own layer for it came later, and a file that holds it would not load in an older one.
"""

from __future__ import annotations

import keras
from keras import layers

PREFIX = "adaptive"  # of the layers' names


def average_to(x: keras.KerasTensor, side: int) -> keras.KerasTensor:
    """(N, h, w, C) → (N, side, side, C), as PyTorch's `AdaptiveAvgPool2d(side)` does.

    Place i is the mean over rows ⌊i·h/side⌋ … ⌈(i + 1)·h/side⌉ − 1, and of columns alike; where a
    map is smaller than `side`, places share rows. A map that has that side stays without a layer.
    """
    return _average(_average(x, side, axis=1), side, axis=2)


def _average(x: keras.KerasTensor, places: int, *, axis: int) -> keras.KerasTensor:
    length = x.shape[axis]
    if length == places:
        return x
    name = f"{PREFIX}_{'rows' if axis == 1 else 'columns'}"
    means = []
    for place in range(places):
        start, end = place * length // places, -(-(place + 1) * length // places)
        cropping, size = [(0, 0), (0, 0)], [1, 1]
        cropping[axis - 1], size[axis - 1] = (start, length - end), end - start
        part = layers.Cropping2D(cropping, name=f"{name}_{place}_crop")(x)
        means.append(layers.AveragePooling2D(size, name=f"{name}_{place}_mean")(part))
    return layers.Concatenate(axis=axis, name=name)(means)
