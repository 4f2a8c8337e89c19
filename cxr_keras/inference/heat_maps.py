"""Heat maps: where in a radiograph a network found what it predicts.

The methods are those of `cam_methods`, occlusion, and integrated gradients of the pixels.

They show what moved the network, not where a finding is.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from PIL import Image

from cxr_keras.errors import CxrError, ModelError
from cxr_keras.inference.cam_methods import CAMS, gradients_of, numbers
from cxr_keras.inference.options import GRAD_CAM, METHODS, NO_TTA, Tta
from cxr_keras.models.adaptive import PREFIX as ADAPTIVE
from cxr_keras.models.blocks import CENTRE_CROP, LOGITS
from cxr_keras.models.registry import list_models
from cxr_keras.models.scaling import MEMBER, input_of
from cxr_keras.models.torch_kernels import native_kernels

_BATCH = 16  # pairs of an image and a finding in one backward pass
_WINDOWS = 8  # windows of occlusion that lie beside each other; two as many places overlap
_STEPS = 16  # of integrated gradients
_CELL = 8  # pixels of a cell in which those of pixels are summed up


def heat_maps(
    model: keras.Model, method: str = GRAD_CAM, layer: str | None = None, *, tta: Tta = NO_TTA
) -> HeatMaps | MeanMaps:
    """What makes the maps of a network; of an ensemble, the mean of its members' maps.

    Args:
        model: a network of this package, or an ensemble of such.
        method: one of `METHODS`.
        layer: whose maps are looked at; by default the network's `map_layer` in the registry,
            or the last before pooling. Occlusion and integrated gradients look at the image itself.
        tta: "flip" takes the mean of the map of an image and that of its mirror image.

    Raises:
        ModelError: the network has no convolution, or no such layer.
        CxrError: there is no such method.
    """
    if any(one.name.startswith(MEMBER) for one in model.layers):
        return MeanMaps(model, method, layer, tta=tta)
    if any(isinstance(one, keras.Model) for one in model.layers):
        raise ModelError(
            f"{model.name} has a network within it, whose layers heat maps do not reach. Leave "
            "them out."
        )
    return HeatMaps(model, method, layer, tta=tta)


class HeatMaps:
    """The maps of one network for many radiographs; see `heat_maps` for the arguments."""

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
        self.method, self._tta = method, tta
        self.side, self._cropped = int(model.input_shape[1]), _cropped(model)
        logits = model.get_layer(LOGITS).output
        layer = layer or _registered_layer(model)
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
        return self.maps(pixels[np.newaxis], [(0, label) for label in labels])

    def maps(self, pixels: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Maps of pairs of an image and a label, as those of `__call__`.

        Args:
            pixels: uint8 (n, side, side).
            pairs: (place of the image, place of the output) each.

        Returns:
            float32 (len(pairs), side, side).
        """
        return np.stack([self.to_image(heat) for heat in self.cells(pixels, pairs)])

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
            falls = {i: self._occlusion(images[i : i + 1]) for i in {i for i, _ in pairs}}
            return np.stack([falls[i][..., label] for i, label in pairs])
        if self.method == "integrated-gradients":
            return np.stack([self._integrated(images[i : i + 1], label) for i, label in pairs])
        with native_kernels(self._trunk):
            maps = numbers(self._trunk.predict_on_batch(images))
        found = []
        for start in range(0, len(pairs), _BATCH):
            some = pairs[start : start + _BATCH]
            features = maps[[image for image, _ in some]]
            if self.method == "eigencam":
                found.append(CAMS["eigencam"](features, features))
                continue
            gradients = gradients_of(self._head, features, [label for _, label in some])
            found.append(CAMS[self.method](features, gradients))
        return np.maximum(np.concatenate(found), 0).astype("float32")

    def to_image(self, heat: np.ndarray) -> np.ndarray:
        """A small map of what the network sees → (side, side), its highest value 1."""
        heat = heat / heat.max() if heat.max() > 0 else heat
        rows, columns = (self.side - sum(cropped) for cropped in self._cropped)
        seen = Image.fromarray(heat.astype("float32"))
        seen = seen.resize((columns, rows), Image.Resampling.BILINEAR)
        return np.pad(np.clip(np.asarray(seen), 0.0, 1.0), self._cropped)

    @property
    def cell(self) -> float:
        """Pixels of the image's square that one place of a map stands for, from side to side."""
        return (self.side - sum(self._cropped[0])) / self.grid

    @property
    def grid(self) -> int:
        """Places of a small map, from side to side."""
        if self.method == "occlusion":
            return 2 * _WINDOWS - 1
        if self.method == "integrated-gradients":
            return (self.side - sum(self._cropped[0])) // _CELL
        return int(self._trunk.output_shape[1])

    def _seen(self, image: np.ndarray) -> np.ndarray:
        (top, bottom), (left, right) = self._cropped
        return image[:, top : image.shape[1] - bottom, left : image.shape[2] - right]

    def _occlusion(self, image: np.ndarray) -> np.ndarray:
        """How far each logit falls where a window is covered, (windows, windows, n_labels)."""
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
                logits.append(numbers(self._whole.predict_on_batch(batch)))
        falls = logits[0] - np.concatenate(logits[1:])
        return np.maximum(falls.reshape(places, places, -1), 0).astype("float32")

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


class MeanMaps:
    """The mean of the maps of an ensemble's members, each map's highest place 1; see `heat_maps`.

    A member whose map is empty counts as one that points nowhere.
    """

    def __init__(self, model: keras.Model, method: str, layer: str | None, *, tta: Tta = NO_TTA):
        members = [one for one in model.layers if one.name.startswith(MEMBER)]
        self._members = [HeatMaps(member, method, layer, tta=tta) for member in members]
        self._inputs = [keras.Model(model.input, input_of(model, member)) for member in members]
        finest = min(range(len(members)), key=lambda place: self._members[place].cell)
        self.method, self._finest = method, self._members[finest]
        self._side = int(model.input_shape[1])

    def __call__(self, pixels: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """See `HeatMaps`."""
        return self.maps(pixels[np.newaxis], [(0, label) for label in labels])

    def maps(self, pixels: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """See `HeatMaps.maps`."""
        found = np.zeros((len(pairs), self._side, self._side), dtype="float32")
        for member, given in zip(self._members, self._inputs, strict=True):
            scaled = numbers(given.predict_on_batch(pixels[..., np.newaxis]))[..., 0]
            for whole, heat in zip(found, member.maps(scaled, pairs), strict=True):
                image = Image.fromarray(heat)
                if image.width != self._side:
                    image = image.resize((self._side, self._side), Image.Resampling.BILINEAR)
                whole += np.asarray(image)
        highest = found.max(axis=(1, 2), keepdims=True)
        return np.asarray(found / np.where(highest > 0, highest, 1))

    def to_image(self, heat: np.ndarray) -> np.ndarray:
        """See `HeatMaps.to_image`."""
        image = Image.fromarray(self._finest.to_image(heat))
        return np.asarray(image.resize((self._side, self._side), Image.Resampling.BILINEAR))

    @property
    def cell(self) -> float:
        """Pixels of the image's square that a place of the finest member's map stands for."""
        return self._side / self._finest.side * self._finest.cell

    @property
    def grid(self) -> int:
        """Places of the finest member's small map, from side to side."""
        return self._finest.grid


def _registered_layer(model: keras.Model) -> str | None:
    """The layer that the registry names for a network's maps; in an ensemble it has no name."""
    names = {layer.name for layer in model.layers}
    return next((s.map_layer for s in list_models() if s.map_layer in names), None)


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
