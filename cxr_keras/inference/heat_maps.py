"""Heat maps: where in a radiograph a network found what it predicts, by several methods.

Each method is a few lines on the maps A of one layer and the gradients G of a finding's logit:

gradcam    channels weighted by their mean gradient; Selvaraju et al., ICCV 2017,
           https://arxiv.org/abs/1610.02391
gradcam++  positive gradients count, weighted place by place; Chattopadhay et al., WACV 2018,
           https://arxiv.org/abs/1710.11063
layercam   each place by its own positive gradient; Jiang et al., IEEE TIP 2021
hirescam   A times G, place by place; Draelos & Carin 2020, https://arxiv.org/abs/2011.08891
eigencam   the first principal component of A, the same for every finding; Muhammad & Yeasin, IJCNN
           2020, https://arxiv.org/abs/2008.00299
occlusion  how much the logit falls where a window is covered; Zeiler & Fergus, ECCV 2014,
           https://arxiv.org/abs/1311.2901. Slow, and needs no gradient.
integrated-gradients  of the pixels, on the way from the image's mean grey; Sundararajan et al.,
           ICML 2017, https://arxiv.org/abs/1703.01365

They show what moved the network, not where a finding is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from PIL import Image

from cxr_keras.errors import CxrError, ModelError
from cxr_keras.inference.options import GRAD_CAM, METHODS, NO_TTA, Tta
from cxr_keras.models.adaptive import PREFIX as ADAPTIVE
from cxr_keras.models.blocks import CENTRE_CROP, LOGITS
from cxr_keras.models.torch_kernels import native_kernels

_BATCH = 16  # pairs of an image and a finding in one backward pass
_WINDOWS = 8  # windows of occlusion that lie beside each other; two as many places overlap
_STEPS = 16  # of integrated gradients
_CELL = 8  # pixels of a cell in which those of pixels are summed up


class HeatMaps:
    """The maps of one network for many radiographs.

    Args:
        model: a network of this package.
        method: one of `METHODS`.
        layer: whose maps are looked at; by default the last before pooling. Occlusion and
            integrated gradients look at the image itself.
        tta: "flip" takes the mean of the map of an image and that of its mirror image.

    Raises:
        ModelError: the network has no convolution, no such layer, or is an ensemble.
        CxrError: there is no such method.
    """

    def __init__(
        self,
        model: keras.Model,
        method: str = GRAD_CAM,
        layer: str | None = None,
        *,
        tta: Tta = NO_TTA,
    ):
        if method not in METHODS:
            raise CxrError(
                f"There is no heat map method {method!r}. Choose one of: {', '.join(METHODS)}."
            )
        if any(isinstance(one, keras.Model) for one in model.layers):
            raise ModelError("An ensemble has no heat map of its own. Ask one of its members.")
        self.method, self._tta = method, tta
        self._side, self._cropped = model.input_shape[1], _cropped(model)
        logits = model.get_layer(LOGITS).output
        place = _last_map(model) if layer is None else _map_of(model, layer)
        self._trunk, self._head = keras.Model(model.input, place), keras.Model(place, logits)
        self._whole = keras.Model(model.input, logits)

    def __call__(self, pixels: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Maps of one radiograph.

        Args:
            pixels: uint8 (side, side), as the network takes it.
            labels: places of the outputs to explain.

        Returns:
            float32 (len(labels), side, side) in 0…1, each small map's highest place 1; 0 everywhere
            where nothing speaks for a finding, and in the rim that the network crops.
        """
        pairs = [(0, label) for label in labels]
        return np.stack([self.to_image(heat) for heat in self.cells(pixels[np.newaxis], pairs)])

    def cells(self, pixels: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Small maps of pairs of an image and a label, as the method gives them, none below 0.

        Args:
            pixels: uint8 (n, side, side).
            pairs: (place of the image, place of the output) each.

        Returns:
            float32 (len(pairs), h, w).
        """
        found = self._cells(pixels, pairs)
        if self._tta != NO_TTA:
            mirrored = self._cells(np.ascontiguousarray(pixels[:, :, ::-1]), pairs)
            found = (found + mirrored[:, :, ::-1]) / 2
        return found

    def _cells(self, pixels: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        images = pixels[..., np.newaxis]
        if self.method == "occlusion":
            return np.stack([self._occlusion(images[i : i + 1], label) for i, label in pairs])
        if self.method == "integrated-gradients":
            return np.stack([self._integrated(images[i : i + 1], label) for i, label in pairs])
        with native_kernels(self._trunk):
            maps = _numbers(self._trunk.predict_on_batch(images))
        found = []
        for start in range(0, len(pairs), _BATCH):
            some = pairs[start : start + _BATCH]
            features = maps[[image for image, _ in some]]
            if self.method == "eigencam":
                found.append(_eigencam(features, features))
                continue
            gradients = gradients_of(self._head, features, [label for _, label in some])
            found.append(_CAMS[self.method](features, gradients))
        return np.maximum(np.concatenate(found), 0).astype("float32")

    def to_image(self, heat: np.ndarray) -> np.ndarray:
        """A small map of what the network sees → (side, side), its highest value 1."""
        heat = heat / heat.max() if heat.max() > 0 else heat
        rows, columns = (self._side - sum(cropped) for cropped in self._cropped)
        seen = Image.fromarray(heat.astype("float32"))
        seen = seen.resize((columns, rows), Image.Resampling.BILINEAR)
        return np.pad(np.clip(np.asarray(seen), 0.0, 1.0), self._cropped)

    @property
    def cell(self) -> float:
        """Pixels of the image's square that one place of a map stands for, from side to side."""
        seen = self._side - sum(self._cropped[0])
        if self.method == "occlusion":
            return seen / (2 * _WINDOWS - 1)
        if self.method == "integrated-gradients":
            return float(_CELL)
        return seen / int(self._trunk.output_shape[1])

    def _seen(self, image: np.ndarray) -> np.ndarray:
        (top, bottom), (left, right) = self._cropped
        return image[:, top : image.shape[1] - bottom, left : image.shape[2] - right]

    def _occlusion(self, image: np.ndarray, label: int) -> np.ndarray:
        (top, _), (left, _) = self._cropped
        side = self._seen(image).shape[1]
        wide, places = max(1, side // _WINDOWS), 2 * _WINDOWS - 1
        starts = np.linspace(0, side - wide, places).round().astype(int)
        covered = np.repeat(image, places * places, axis=0)
        grey = int(self._seen(image).mean())
        for number, (row, column) in enumerate((r, c) for r in starts for c in starts):
            y, x = top + row, left + column
            covered[number, y : y + wide, x : x + wide] = grey
        logits = []
        with native_kernels(self._whole):
            for batch in (image, *np.array_split(covered, -(-len(covered) // 32))):
                logits.append(_numbers(self._whole.predict_on_batch(batch))[:, label])
        falls = logits[0][0] - np.concatenate(logits[1:])
        return np.maximum(falls.reshape(places, places), 0).astype("float32")

    def _integrated(self, image: np.ndarray, label: int) -> np.ndarray:
        pixels = image.astype("float32")
        start = np.full_like(pixels, self._seen(pixels).mean())
        shares = (np.arange(_STEPS, dtype="float32") + 0.5) / _STEPS
        way = np.concatenate([start + share * (pixels - start) for share in shares])
        slopes = gradients_of(self._whole, way, [label] * _STEPS).mean(axis=0, keepdims=True)
        shown = self._seen(slopes * (pixels - start))[0, ..., 0]
        side = shown.shape[0] // _CELL * _CELL
        blocks = shown[:side, :side].reshape(side // _CELL, _CELL, side // _CELL, _CELL)
        return np.maximum(blocks.sum(axis=(1, 3)), 0).astype("float32")


def _gradcam(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    return np.asarray((gradients.mean(axis=(1, 2), keepdims=True) * maps).sum(axis=-1))


def _gradcam_plus(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    squares, cubes = gradients**2, gradients**3
    below = 2 * squares + maps.sum(axis=(1, 2), keepdims=True) * cubes
    share = squares / np.where(below == 0, 1, below)
    weights = (share * np.maximum(gradients, 0)).sum(axis=(1, 2), keepdims=True)
    return np.asarray((weights * maps).sum(axis=-1))


def _layercam(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    return np.asarray((np.maximum(gradients, 0) * maps).sum(axis=-1))


def _hirescam(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    return np.asarray((gradients * maps).sum(axis=-1))


def _eigencam(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    found = []
    for one in maps:
        places = one.reshape(-1, one.shape[-1])
        _, _, axes = np.linalg.svd(places - places.mean(axis=0), full_matrices=False)
        along = places @ axes[0]
        along = along if abs(along.max()) >= abs(along.min()) else -along
        found.append(along.reshape(one.shape[:2]))
    return np.stack(found)


_CAMS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "gradcam": _gradcam,
    "gradcam++": _gradcam_plus,
    "layercam": _layercam,
    "hirescam": _hirescam,
}


def gradients_of(head: keras.Model, features: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """How the logit of one label each changes with what a network is given, in one backward pass.

    Keras has no gradient of its own: each backend's is asked for.

    Args:
        head: a network, or the end of one, that gives logits (n, n_labels).
        features: its inputs, float32 (n, …).
        labels: (n,), the label of each.

    Returns:
        float32 (n, …).

    Raises:
        ModelError: the backend gives no gradient.
    """
    chosen = np.eye(head.output_shape[-1], dtype="float32")[np.asarray(labels)]
    backend = keras.backend.backend()
    found: Any
    if backend == "torch":
        import torch

        given = keras.ops.convert_to_tensor(features).detach().requires_grad_(True)
        logits = head(given, training=False)
        wanted = keras.ops.cast(keras.ops.convert_to_tensor(chosen), logits.dtype)
        found = torch.autograd.grad(logits, given, wanted)[0]
    elif backend == "jax":
        import jax

        logits, pull_back = jax.vjp(lambda x: head(x, training=False), jax.numpy.asarray(features))
        found = pull_back(jax.numpy.asarray(chosen, logits.dtype))[0]
    elif backend == "tensorflow":
        import tensorflow as tf

        given = tf.convert_to_tensor(features)
        with tf.GradientTape() as tape:
            tape.watch(given)
            logits = head(given, training=False)
        found = tape.gradient(logits, given, output_gradients=tf.cast(chosen, logits.dtype))
    else:
        raise ModelError(
            f"Heat maps need a gradient, which KERAS_BACKEND={backend} does not give. Leave them "
            "out, or set it to torch, jax or tensorflow."
        )
    return _numbers(keras.ops.stop_gradient(found))


def _numbers(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")))


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


def _map_of(model: keras.Model, name: str) -> keras.KerasTensor:
    maps = [
        layer.name
        for layer in model.layers[1:]
        if not isinstance(layer.output, list | tuple) and len(layer.output.shape) == 4
    ]
    if name not in maps:
        raise ModelError(
            f"{model.name} has no layer {name!r} of maps. Its last ones: {', '.join(maps[-6:])}."
        )
    tensor: keras.KerasTensor = model.get_layer(name).output
    return tensor


def _cropped(model: keras.Model) -> tuple[tuple[int, int], ...]:
    """Pixels of rows and columns, before and after, that the network's stem leaves out."""
    for layer in model.layers:
        if layer.name == CENTRE_CROP and isinstance(layer, keras.layers.Cropping2D):
            rows, columns = layer.cropping
            return tuple(rows), tuple(columns)
    return (0, 0), (0, 0)
