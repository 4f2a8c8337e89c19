"""Grad-CAM: where in a radiograph a network found what it predicts.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017, https://arxiv.org/abs/1610.02391. It shows what moved the network,
not where a finding is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cxr_keras.errors import ModelError
from cxr_keras.models.blocks import CROP_SIZE, INPUT_SIZE, LOGITS
from cxr_keras.plots import save_figure
from cxr_keras.utils.files import make_parent


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
    return GradCam(model)(pixels, labels)


class GradCam:
    """Grad-CAM of one network for many radiographs, see `grad_cam`."""

    def __init__(self, model: keras.Model):
        if keras.backend.backend() != "torch":
            raise ModelError("Heat maps need the torch backend. Set KERAS_BACKEND=torch.")
        if any(isinstance(layer, keras.Model) for layer in model.layers):
            raise ModelError("An ensemble has no heat map of its own. Ask one of its members.")
        place = _last_map(model)
        self._trunk = keras.Model(model.input, place)
        self._head = keras.Model(place, model.get_layer(LOGITS).output)

    def __call__(self, pixels: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Maps of one radiograph, float32 (len(labels), 256, 256)."""
        import torch

        with torch.no_grad():
            features = self._trunk(pixels[np.newaxis, ..., np.newaxis], training=False)
        features = features.detach().requires_grad_(True)
        logits = self._head(features, training=False)[0]
        maps = []
        for label in labels:
            (gradient,) = torch.autograd.grad(logits[label], features, retain_graph=True)
            weights = gradient.mean(dim=(1, 2), keepdim=True)
            heat = torch.relu((weights * features).sum(dim=-1))[0]
            maps.append(_to_image(heat.detach().cpu().float().numpy()))
        return np.stack(maps)


def save_overlay(pixels: np.ndarray, heat: np.ndarray, target: Path, *, title: str) -> None:
    """Write a PNG: the radiograph, and beside it the same with the map over it."""
    make_parent(target)
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


def _last_map(model: keras.Model) -> keras.KerasTensor:
    """The last output before pooling and flattening that still is a map."""
    pooling = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
    if any(len(layer.weights[0].shape) == 4 for layer in model.layers if layer.weights):
        for layer in reversed(model.layers):
            tensor: keras.KerasTensor = layer.output
            if len(tensor.shape) == 4 and not isinstance(layer, pooling):
                return tensor
    raise ModelError(f"{model.name} has no convolutional layer to explain. Leave --heatmaps out.")


def _to_image(heat: np.ndarray) -> np.ndarray:
    """A small map of the 224-pixel crop → (256, 256), its maximum 1."""
    heat = heat / heat.max() if heat.max() > 0 else heat
    crop = Image.fromarray(heat.astype("float32"))
    crop = crop.resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BILINEAR)
    margin = (INPUT_SIZE - CROP_SIZE) // 2
    return np.pad(np.clip(np.asarray(crop), 0.0, 1.0), margin)
