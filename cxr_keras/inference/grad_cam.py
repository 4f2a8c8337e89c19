"""Grad-CAM of one radiograph, and pictures of heat maps.

The methods are in `heat_maps`. A map shows what moved the network, not where a finding is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cxr_keras.inference.heat_maps import HeatMaps
from cxr_keras.plots import save_figure
from cxr_keras.utils.files import make_parent


def grad_cam(model: keras.Model, pixels: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """Grad-CAM maps of one radiograph.

    Args:
        model: a network of this package.
        pixels: uint8 (side, side), as the network takes it.
        labels: places of the outputs to explain.

    Returns:
        float32 (len(labels), side, side) in 0…1; 0 in the rim that the network crops.

    Raises:
        ModelError: the network has no convolution or is an ensemble.
    """
    return HeatMaps(model)(pixels, labels)


def save_overlay(pixels: np.ndarray, heat: np.ndarray, target: Path, *, title: str) -> None:
    """Write a PNG: the radiograph, and beside it the same with the map over it.

    Args:
        pixels: uint8 (n, n), of any resolution; the picture has about as many pixels.
        heat: (side, side) in 0…1, of the same part of the film.
        target: the file.
        title: above the map.
    """
    make_parent(target)
    if len(pixels) != len(heat):
        image = Image.fromarray(heat.astype("float32"))
        heat = np.asarray(image.resize(pixels.shape[::-1], Image.Resampling.BILINEAR))
    figure = Figure(figsize=(7.2, 3.9))
    for axes, name in zip(figure.subplots(1, 2), ("radiograph", title), strict=True):
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        axes.set_title(name, fontsize=10)
        axes.axis("off")
    overlay = figure.axes[1]
    overlay.imshow(heat, cmap="inferno", alpha=0.55 * heat, vmin=0, vmax=1)
    overlay.contour(heat, levels=[0.5], colors="white", linewidths=1)  # for print in grey
    figure.tight_layout()
    save_figure(figure, target, dpi=150 if len(pixels) <= 512 else 300)
