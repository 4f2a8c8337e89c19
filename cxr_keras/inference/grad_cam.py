"""Grad-CAM: where in a radiograph a network found what it predicts.

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
from cxr_keras.models.adaptive import PREFIX as ADAPTIVE
from cxr_keras.models.blocks import CENTRE_CROP, LOGITS
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
    return GradCam(model)(pixels, labels)


class GradCam:
    """Grad-CAM of one network for many radiographs, see `grad_cam`."""

    def __init__(self, model: keras.Model):
        if any(isinstance(layer, keras.Model) for layer in model.layers):
            raise ModelError("An ensemble has no heat map of its own. Ask one of its members.")
        self._side, self._cropped = model.input_shape[1], _cropped(model)
        place = _last_map(model)
        self._trunk = keras.Model(model.input, place)
        self._head = keras.Model(place, model.get_layer(LOGITS).output)

    def __call__(self, pixels: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Maps of one radiograph, float32 (len(labels), side, side)."""
        pixels = pixels[np.newaxis, ..., np.newaxis]
        features, gradients = _gradients(self._trunk, self._head, pixels, labels)
        weights = gradients.mean(axis=(1, 2), keepdims=True)
        heat = np.maximum((weights * features).sum(axis=-1), 0.0)
        return np.stack([self._to_image(one) for one in heat])

    def _to_image(self, heat: np.ndarray) -> np.ndarray:
        """A small map of what the network sees → (side, side), its maximum 1."""
        heat = heat / heat.max() if heat.max() > 0 else heat
        rows, columns = (self._side - sum(cropped) for cropped in self._cropped)
        seen = Image.fromarray(heat.astype("float32"))
        seen = seen.resize((columns, rows), Image.Resampling.BILINEAR)
        return np.pad(np.clip(np.asarray(seen), 0.0, 1.0), self._cropped)


def _gradients(
    trunk: keras.Model, head: keras.Model, pixels: np.ndarray, labels: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Features of one radiograph, and how each label's logit changes with them.

    Keras has no gradient of its own: each backend's is asked for.

    Returns:
        float32 (1, h, w, c), and (len(labels), h, w, c).
    """
    chosen = np.eye(head.output_shape[-1], dtype="float32")[np.asarray(labels), np.newaxis]
    backend = keras.backend.backend()
    gradients: list[Any]
    if backend == "torch":
        import torch

        with torch.no_grad():
            features = trunk(pixels, training=False)
        features = features.detach().requires_grad_(True)
        logits = head(features, training=False)
        rows = [keras.ops.convert_to_tensor(row) for row in chosen]
        gradients = [torch.autograd.grad(logits, features, r, retain_graph=True)[0] for r in rows]
    elif backend == "jax":
        import jax

        features = trunk(pixels, training=False)
        _, pull_back = jax.vjp(lambda maps: head(maps, training=False), features)
        gradients = [pull_back(jax.numpy.asarray(row))[0] for row in chosen]
    elif backend == "tensorflow":
        import tensorflow as tf

        features = trunk(pixels, training=False)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(features)
            logits = head(features, training=False)
        gradients = [tape.gradient(logits, features, output_gradients=row) for row in chosen]
    else:
        raise ModelError(
            f"Heat maps need a gradient, which KERAS_BACKEND={backend} does not give. Leave them "
            "out, or set it to torch, jax or tensorflow."
        )
    numbers = [
        keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.stop_gradient(tensor), "float32"))
        for tensor in (features, *gradients)
    ]
    return numbers[0], np.concatenate(numbers[1:])


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
            pools = isinstance(layer, pooling) or layer.name.startswith(ADAPTIVE)
            if len(tensor.shape) == 4 and not pools:
                return tensor
    raise ModelError(f"{model.name} has no convolutional layer to explain. Leave --heatmaps out.")


def _cropped(model: keras.Model) -> tuple[tuple[int, int], ...]:
    """Pixels of rows and columns, before and after, that the network's stem leaves out."""
    for layer in model.layers:
        if layer.name == CENTRE_CROP and isinstance(layer, keras.layers.Cropping2D):
            rows, columns = layer.cropping
            return tuple(rows), tuple(columns)
    return (0, 0), (0, 0)
