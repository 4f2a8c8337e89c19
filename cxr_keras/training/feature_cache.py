"""The feature cache: the frozen part of a network runs once per image, not once per epoch.

A network declares its blocks (see `ModelSpec.blocks`), each of which takes the output of the one
before it. Where the first blocks are frozen and without dropout, what comes out of them is the
same in every epoch: it is computed once, stored memory-mapped under a key made of weights and
pixels, and the rest of the network is trained on it. Runs that differ in learning rate or length
share one store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cxr_keras.data.augmentation import Augmenter
from cxr_keras.data.labels import LabelSet
from cxr_keras.data.loader import RadiographLoader
from cxr_keras.data.preparation import Prepared, PreparedSplit
from cxr_keras.data.splits import SPLITS, TRAIN
from cxr_keras.errors import CxrError, ModelError
from cxr_keras.inference.forward import BATCH_SIZE, forward
from cxr_keras.models.blocks import LOGITS
from cxr_keras.models.registry import ModelSpec, find_spec
from cxr_keras.training.config import TrainConfig
from cxr_keras.training.processes import ALONE, Team
from cxr_keras.utils.arrays import open_rows, row_writer, take_rows
from cxr_keras.utils.console import notice, progress_bar
from cxr_keras.utils.files import build_once, cache_folder, cannot_write

VERSION = 3  # of the store's layout and key
_FEATURES = "features.npy"


@dataclass(frozen=True)
class TrainedPart:
    """The part of a network that training runs, and what it is fed.

    Attributes:
        logits: what is trained; the loss is taken on logits (see `blocks.sigmoid_head`).
        batches: of the training split, inputs of `logits`.
        probabilities: from `splits` to sigmoids, for evaluation.
        splits: name → its images, as pixels or stored features.
        labels: what it predicts.
    """

    logits: keras.Model
    batches: RadiographLoader
    probabilities: keras.Model
    splits: Mapping[str, PreparedSplit]
    labels: LabelSet


class FeatureSplit(PreparedSplit):
    """A split with stored features in place of pixels."""

    def batch(self, places: Any) -> np.ndarray:
        """Features of the images at `places`, float32 (B, …)."""
        return take_rows(self.pixels, self.index[places])


def trained_part(
    network: keras.Model, config: TrainConfig, prepared: Prepared, team: Team = ALONE
) -> TrainedPart:
    """What is trained of `network`: all of it, or what follows the frozen blocks.

    With `config.feature_cache` off, images that change from epoch to epoch, or boxes, the whole
    network is the trained part. Each process of `team` is fed its share of every batch.
    """
    splits = {name: prepared.split(name) for name in SPLITS}
    source = network.input
    augmenter = Augmenter(config.augment, flip=config.flip, mixup=config.mixup, seed=config.seed)
    cached = config.feature_cache and not augmenter.changes and not config.boxes
    cut = frozen_output(network, find_spec(config.model)) if cached else None
    if cut is not None:
        frozen = keras.Model(network.input, cut)
        features = team.in_turn(lambda: stored_features(frozen, prepared))
        places = {name: prepared.places(name) for name in SPLITS}
        splits = {
            name: FeatureSplit(split.rows, features, places[name], split.truth, split.labels)
            for name, split in splits.items()
        }
        source = cut
    return TrainedPart(
        logits=keras.Model(source, network.get_layer(LOGITS).output),
        batches=RadiographLoader(
            splits[TRAIN],
            config.batch_size,
            seed=config.seed,
            augmenter=augmenter,
            sampler=config.sampler,
            smoothing=config.label_smoothing,
            share=(team.rank, team.size),
        ),
        probabilities=keras.Model(source, network.output),
        splits=splits,
        labels=prepared.labels,
    )


def frozen_output(network: keras.Model, spec: ModelSpec | None) -> keras.KerasTensor | None:
    """What comes out of the frozen first blocks of `network`: the input of all that follows.

    Args:
        network: with the flags `trainable` of its layers set.
        spec: its blocks; None if they are not known.

    Raises:
        ModelError: all of it is frozen.

    Returns:
        None if nothing is frozen before the first layer that trains or draws at random, or if
        what follows needs more than that one tensor.
    """
    changing = next((layer for layer in network.layers if not _is_fixed(layer)), None)
    if changing is None:
        raise ModelError(f"Nothing of {network.name} trains. Set `trainable` of some layer.")
    block = spec.block_of(changing.name) if spec else None
    if spec and block is not None:  # a block is cut as a whole: go back to where it begins
        changing = next(layer for layer in network.layers if spec.block_of(layer.name) == block)
    before = network.layers[: network.layers.index(changing)]
    if not any(layer.weights for layer in before):
        return None
    try:
        after = keras.Model(changing.input, network.output)
    except (ValueError, TypeError):  # another path leads around the cut
        return None
    # Keras before 3.14 raises nothing there: it keeps the input at which that path begins
    begins = [layer for layer in after.layers if isinstance(layer, keras.layers.InputLayer)]
    return changing.input if len(begins) == len(after.inputs) else None


def stored_features(frozen: keras.Model, prepared: Prepared) -> np.ndarray:
    """What the frozen part gives for every image of the manifest, float32 (N, …), memory-mapped.

    Row i belongs to row i of the manifest. The rows are computed on first use; a second process
    that asks for the same waits for the first.

    Args:
        frozen: pixels → features.
        prepared: the images.

    Raises:
        CxrError: the cache folder cannot be written, or its disk is full.
    """
    assert prepared.store is not None
    pixels, rows = prepared.store.pixels, prepared.manifest["row"].to_numpy()
    shape = (len(rows), *frozen.output.shape[1:])
    folder = cache_folder("features") / _key(frozen, prepared)
    size = 4 * int(np.prod(shape)) / 1e6

    def write(temporary: Path) -> None:
        notice(
            f"Running the frozen part once over {len(rows):,} images: "
            f"{size:,.1f} MB of features in {folder} (the store may be deleted at any time)."
        )
        starts = range(0, len(rows), BATCH_SIZE)
        batches = (take_rows(pixels, rows[i : i + BATCH_SIZE])[..., np.newaxis] for i in starts)
        with (
            row_writer(temporary / _FEATURES, shape, "float32") as file,
            progress_bar("Frozen part", len(rows)) as bar,
        ):
            for features in forward(frozen, batches):
                file.write(features.tobytes())
                bar.advance(len(features))

    waiting = "Another process runs the same frozen part; waiting for it."
    try:
        build_once(folder, write, waiting=waiting)
    except OSError as error:
        raise CxrError(
            f"{cannot_write(folder, error)} It needs {size:,.0f} MB; --no-feature-cache does "
            "without it."
        ) from error
    return open_rows(folder / _FEATURES)


def _is_fixed(layer: keras.Layer) -> bool:
    """Whether a layer is the same function in every epoch."""
    trains = bool(layer.trainable_weights)
    by_the_batch = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    random = len(layer.variables) > len(layer.weights)  # the state of a random generator
    return not (trains or by_the_batch or random)


def _key(frozen: keras.Model, prepared: Prepared) -> str:
    """A digest of the frozen part's layers and weights, the backend, and the images' pixels."""
    digest = hashlib.sha256(f"features v{VERSION} {keras.backend.backend()}".encode())
    for layer in frozen.layers:
        config = layer.get_config()
        config.pop("trainable", None)
        digest.update(repr((type(layer).__name__, config)).encode())
    for weight in frozen.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight.value)).tobytes())
    digest.update("".join(prepared.manifest["digest"]).encode())
    return digest.hexdigest()[:20]
