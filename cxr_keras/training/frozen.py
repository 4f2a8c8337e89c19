"""The frozen part of a network, run once per image instead of once per image and epoch.

The longest prefix of the graph whose layers are frozen and deterministic (no dropout, batch
normalisation on its stored statistics) gives the same numbers for an image in every epoch. Its
outputs are stored, memory-mapped, under a key made of its weights and of the pixels, and the rest
of the network is trained on them. A grid of learning rates and lengths shares one store.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cxr_keras.data.preparation import Prepared, PreparedSplit
from cxr_keras.errors import CxrError
from cxr_keras.models.torch_kernels import native_kernels
from cxr_keras.training.graph import last_before
from cxr_keras.utils.arrays import open_rows, row_writer, take_rows
from cxr_keras.utils.console import notice, progress_bar
from cxr_keras.utils.files import build_once, cache_folder, cannot_write

VERSION = 1  # of the store's layout
BATCH_SIZE = 32
_FEATURES = "features.npy"


@dataclass(frozen=True)
class FrozenPrefix:
    """A network cut in two where everything before is frozen and deterministic.

    Attributes:
        prefix: raw pixels → features.
        tensor: where in the network the cut lies.
    """

    prefix: keras.Model
    tensor: keras.KerasTensor

    def rest(self, output: keras.KerasTensor) -> keras.Model:
        """The other part: features → `output`, on the network's own layers and weights."""
        return keras.Model(self.tensor, output)


class FeatureSplit(PreparedSplit):
    """One side of a split with stored features in place of pixels."""

    def batch(self, places: Any) -> np.ndarray:
        """Features of the films at `places`, float32 (B, …)."""
        return take_rows(self.pixels, self.index[places])


def cut(model: keras.Model) -> FrozenPrefix | None:
    """Cut `model` after its longest frozen, deterministic prefix; None if no weight is in it.

    The cut is a single tensor on which alone everything after it depends.
    """
    tensor = last_before(model, is_fixed)
    if tensor is None:
        return None
    prefix = keras.Model(model.input, tensor)
    return FrozenPrefix(prefix, tensor) if prefix.weights else None


def is_fixed(layer: Any) -> bool:
    """Whether a layer (or an operation without weights) is the same function in every epoch."""
    if not isinstance(layer, keras.Layer):
        return True
    by_the_batch = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    nested = isinstance(layer, keras.Model)
    return not (layer.trainable_weights or by_the_batch or nested or is_random(layer))


def is_random(layer: Any) -> bool:
    """Whether training gives another output for the same input, such as a dropout's."""
    if not isinstance(layer, keras.Layer) or getattr(layer, "rate", 1) == 0:
        return False
    return any(
        isinstance(value, keras.random.SeedGenerator)
        for part in layer._flatten_layers()
        for value in vars(part).values()
    )


def stored_features(parts: FrozenPrefix, prepared: Prepared) -> np.ndarray:
    """Features of every film of the pixel store, float32 (N, …), memory-mapped.

    Row i belongs to row i of the pixel store. They are computed on first use; a second process
    that asks for the same waits for the first.
    """
    assert prepared.store is not None
    films = prepared.store.pixels
    shape = (len(films), *parts.prefix.output.shape[1:])
    folder = cache_folder("features") / _key(parts.prefix, prepared)
    size = 4 * int(np.prod(shape)) / 1e6

    def write(temporary: Path) -> None:
        notice(
            f"Running the frozen part once over {len(films):,} films: "
            f"{size:,.1f} MB of features in {folder} (the store may be deleted at any time)."
        )
        with (
            row_writer(temporary / _FEATURES, shape, "float32") as file,
            progress_bar("Frozen part", len(films)) as bar,
            native_kernels(parts.prefix),
        ):
            for start in range(0, len(films), BATCH_SIZE):
                batch = take_rows(films, slice(start, start + BATCH_SIZE))[..., np.newaxis]
                features = parts.prefix.predict_on_batch(batch)
                file.write(np.asarray(features, dtype="float32").tobytes())
                bar.advance(len(batch))

    waiting = "Another process runs the same frozen part; waiting for it."
    try:
        build_once(folder, write, waiting=waiting)
    except OSError as error:
        raise CxrError(
            f"{cannot_write(folder, error)} It needs {size:,.0f} MB; --no-feature-cache does "
            "without it."
        ) from error
    return open_rows(folder / _FEATURES)


def with_features(side: PreparedSplit, features: np.ndarray) -> FeatureSplit:
    """The same side of a split, with features in place of pixels."""
    return FeatureSplit(side.rows, features, side.index, side.truth)


def _key(prefix: keras.Model, prepared: Prepared) -> str:
    """A digest of the prefix's graph and weights, the backend, and the films' pixels."""
    assert prepared.store is not None
    digest = hashlib.sha256(f"features v{VERSION} {keras.backend.backend()}".encode())
    for operation in prefix.operations:
        config = operation.get_config() if isinstance(operation, keras.Layer) else {}
        config.pop("trainable", None)
        digest.update(repr((type(operation).__name__, config)).encode())
    for weight in prefix.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight.value)).tobytes())
    digest.update(prepared.store.folder.name.encode())
    return digest.hexdigest()[:20]
