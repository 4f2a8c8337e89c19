"""Frozen layers behind a dropout, run over several batches at once.

AlexNet's and VGG's frozen dense layers lie behind a dropout, so their outputs differ from epoch
to epoch and cannot be stored (see `frozen.py`). But nothing that training changes enters them, so
they need not wait for it. Their weights are hundreds of megabytes, and reading those once for a
dozen batches instead of for each makes an epoch twice as fast.

The dropout's masks are drawn batch by batch in the order in which training would draw them, so
the same seed gives the same history.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np

from cxr_keras.data.loader import RadiographLoader
from cxr_keras.data.preparation import PreparedSplit
from cxr_keras.training.frozen import FrozenPrefix, is_fixed, is_random
from cxr_keras.training.graph import last_before

FILMS_AT_ONCE = 256


def cut_dropout(network: keras.Model, parts: FrozenPrefix) -> FrozenPrefix | None:
    """The frozen layers between `parts`' cut and the first layer that trains.

    Returns:
        Their graph, from stored features on, and where it ends. None if there are no weights in
        it, if a random layer comes after it (it would draw before its turn), if the masks of
        its dropouts cannot be drawn ahead, or on a backend other than torch.
    """
    tensor = last_before(network, lambda layer: is_fixed(layer) or _is_dropout(layer))
    if tensor is None or tensor is parts.tensor or keras.backend.backend() != "torch":
        return None
    middle = keras.Model(parts.tensor, tensor)
    after = [layer for layer in network.layers if layer not in parts.prefix.layers + middle.layers]
    if not middle.weights or any(is_random(layer) for layer in after):
        return None
    return FrozenPrefix(middle, tensor) if _draws_alike(middle) else None


class LookaheadLoader(RadiographLoader):
    """Batches of the outputs of frozen layers with dropout, float32 (B, …), and truth (B, 15).

    Take batches in order: the first of a block computes the block, up to 256 films, on the random
    generator's state of that moment.

    Args:
        split: features that enter the frozen layers.
        batch_size: films a batch.
        layers: the frozen layers, from `cut_dropout`.
        seed: shuffle with it.
    """

    def __init__(self, split: PreparedSplit, batch_size: int, layers: keras.Model, *, seed: int):
        self._layers = layers
        self._block: dict[int, Any] = {}
        super().__init__(split, batch_size, seed=seed)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Batch number `index`, as tensors."""
        if index not in self._block:
            count = max(1, FILMS_AT_ONCE // self.batch_size)
            self._block = self._run(range(index, min(index + count, len(self))))
        return self._block[index], self._move(self.split.truth[self._places(index)])

    def start_epoch(self, epoch: int) -> None:
        """Take the order of epoch number `epoch` and forget what was computed ahead."""
        super().start_epoch(epoch)
        self._block = {}

    def _run(self, numbers: range) -> dict[int, Any]:
        """Batch number → outputs of the frozen layers, from one pass over all these batches."""
        import torch

        places = [self._places(number) for number in numbers]
        sizes = [len(chosen) for chosen in places]
        with torch.no_grad():
            masks = _draw(self._layers, sizes)
            features = self._move(self.split.batch(np.concatenate(places)))
            with _fixed_dropout(masks):
                outputs = self._layers(features, training=True)
        return dict(zip(numbers, torch.split(outputs, sizes), strict=True))


def _is_dropout(layer: Any) -> bool:
    """Whether a layer is a plain dropout, without a state that a checkpoint would have to keep."""
    return type(layer) is keras.layers.Dropout and layer.noise_shape is None and layer.seed is None


def _draw(layers: keras.Model, sizes: list[int]) -> dict[Any, Any]:
    """Dropout → what it multiplies its input with, batch by batch: 0, or 1 / (1 - rate)."""
    import torch

    drawn: dict[Any, list[Any]] = {layer: [] for layer in layers.layers if is_random(layer)}
    for size in sizes:
        for layer, masks in drawn.items():
            ones = keras.ops.ones((size, *layer.input.shape[1:]), dtype=layer.compute_dtype)
            masks.append(layer(ones, training=True))
    return {layer: torch.cat(masks) for layer, masks in drawn.items()}


def _draws_alike(layers: keras.Model) -> bool:
    """Whether masks drawn ahead are those of a plain pass: not so in branches, for example."""
    import torch

    features = keras.random.normal((2, *layers.input.shape[1:]), seed=0)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        plain = layers(features, training=True)
        torch.manual_seed(0)
        with _fixed_dropout(_draw(layers, [2])):
            ahead = layers(features, training=True)
    return bool(torch.allclose(plain, ahead, atol=1e-3, equal_nan=True))


@contextmanager
def _fixed_dropout(masks: dict[Any, Any]) -> Iterator[None]:
    """Within the body, dropouts multiply with these masks instead of drawing their own."""
    for layer, mask in masks.items():
        layer.call = partial(_multiply, mask)
    try:
        yield
    finally:
        for layer in masks:
            del layer.call


def _multiply(mask: Any, inputs: Any, training: bool = False) -> Any:
    return inputs * mask
