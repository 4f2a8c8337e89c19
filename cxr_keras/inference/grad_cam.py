"""Grad-CAM of one radiograph; the other methods are in `heat_maps`."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from cxr_keras.inference.heat_maps import heat_maps


def grad_cam(model: keras.Model, pixels: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """Grad-CAM maps of one radiograph.

    Args:
        model: a network of this package.
        pixels: uint8 (side, side), as the network takes it.
        labels: places of the outputs to explain.

    Returns:
        float32 (len(labels), side, side) in 0…1; 0 in the rim that the network crops.

    Raises:
        ModelError: the network has no convolution.
    """
    return heat_maps(model)(pixels, labels)
