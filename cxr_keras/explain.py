"""Grad-CAM: where in a radiograph a network found what it calls.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017, https://arxiv.org/abs/1610.02391. It shows what moved the network,
not where a finding is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cxr_keras.errors import ModelError
from cxr_keras.models.blocks import CROP_SIZE, INPUT_SIZE, LOGITS
from cxr_keras.plots import save_figure


def grad_cam(model: keras.Model, pixels: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """Grad-CAM maps of one radiograph.

    Args:
        model: a network of this package.
        pixels: uint8 (256, 256).
        labels: places of the outputs to explain.

    Returns:
        float32 (len(labels), 256, 256) in 0…1; 0 outside the network's 224-pixel centre.

    Raises:
        ModelError: the backend is not torch, or the network has no convolution or is an ensemble.
    """
    if keras.backend.backend() != "torch":
        raise ModelError("Heat maps need the torch backend. Set KERAS_BACKEND=torch.")
    if any(isinstance(layer, keras.Model) for layer in model.layers):
        raise ModelError("An ensemble has no heat map of its own. Ask one of its members.")
    import torch

    place = _last_convolutional_layer(model)
    trunk = keras.Model(model.input, place.output)
    head = keras.Model(place.output, model.get_layer(LOGITS).output)
    with torch.no_grad():
        features = trunk(pixels[np.newaxis, ..., np.newaxis], training=False)
    features = features.detach().requires_grad_(True)
    logits = head(features, training=False)[0]
    maps = []
    for label in labels:
        (gradient,) = torch.autograd.grad(logits[label], features, retain_graph=True)
        weights = gradient.mean(dim=(1, 2), keepdim=True)
        heat = torch.relu((weights * features).sum(dim=-1))[0]
        maps.append(_to_film(heat.detach().cpu().float().numpy()))
    return np.stack(maps)


def save_overlay(pixels: np.ndarray, heat: np.ndarray, target: Path, *, title: str) -> None:
    """Write a PNG: the radiograph, and beside it the same with the map over it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(7.2, 3.9))
    for axes, name in zip(figure.subplots(1, 2), ("radiograph", title), strict=True):
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        axes.set_title(name, fontsize=10)
        axes.axis("off")
    overlay = figure.axes[1]
    overlay.imshow(heat, cmap="inferno", alpha=0.55 * heat, vmin=0, vmax=1)
    overlay.contour(heat, levels=[0.5], colors="white", linewidths=1)  # for print in grey
    figure.tight_layout()
    save_figure(figure, target)


def _last_convolutional_layer(model: keras.Model) -> Any:
    """The last layer before pooling and flattening whose output still is a map."""
    pooling = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
    convolutions = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    if any(isinstance(layer, convolutions) for layer in model.layers):
        for layer in reversed(model.layers):
            if len(getattr(layer.output, "shape", ())) == 4 and not isinstance(layer, pooling):
                return layer
    raise ModelError(f"{model.name} has no convolutional layer to explain. Leave --heatmaps out.")


def _to_film(heat: np.ndarray) -> np.ndarray:
    """A small map of the 224-pixel crop → (256, 256), its maximum 1."""
    heat = heat / heat.max() if heat.max() > 0 else heat
    crop = Image.fromarray(heat.astype("float32"))
    crop = crop.resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BILINEAR)
    margin = (INPUT_SIZE - CROP_SIZE) // 2
    return np.pad(np.clip(np.asarray(crop), 0.0, 1.0), margin)
