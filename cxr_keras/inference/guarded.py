"""A network with its guard: probabilities, and how familiar each image is to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import keras
import numpy as np
from threadpoolctl import ThreadpoolController

from cxr_keras.data.preparation import PreparedSplit
from cxr_keras.errors import ModelError
from cxr_keras.inference.forward import BATCH_SIZE, forward
from cxr_keras.inference.guard import DEPTHS, FEWEST, MOST, UNLIKE, Guard, fit_guard, pooled
from cxr_keras.inference.options import NO_TTA, Tta
from cxr_keras.models.adaptive import PREFIX as ADAPTIVE
from cxr_keras.models.torch_kernels import native_kernels
from cxr_keras.runs import model_file
from cxr_keras.utils.console import progress_bar

# How an image may lie, by what would put it right; each changes (n, h, w, 1)
CORRECTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inverted": lambda pixels: 255 - pixels,
    "turned by 180°": lambda pixels: np.rot90(pixels, 2, (1, 2)),
    "turned by 90° to the left": lambda pixels: np.rot90(pixels, 1, (1, 2)),
    "turned by 90° to the right": lambda pixels: np.rot90(pixels, 3, (1, 2)),
    "mirrored top to bottom": lambda pixels: pixels[:, ::-1],
}


@dataclass(frozen=True)
class Correction:
    """What would make an image familiar.

    Attributes:
        name: one of `CORRECTIONS`.
        pixels: uint8 (side, side), corrected.
    """

    name: str
    pixels: np.ndarray


class Guarded:
    """A network that says how familiar an image is, beside what it predicts.

    Args:
        model: the network.
        guard: its guard.

    Attributes:
        seen: what runs: the network with the maps that the guard looks at.
    """

    def __init__(self, model: keras.Model, guard: Guard):
        self.model, self.guard = model, guard
        maps = depths_of(model)
        sizes = [min(3, m.shape[1]) * min(3, m.shape[2]) * m.shape[3] for m in maps]
        if sizes != [len(depth.mean) for depth in guard.depths]:
            raise ModelError("The model file holds a guard of another network. Train it again.")
        self.seen = keras.Model(model.input, [model.output, *maps])
        self._libraries = ThreadpoolController()

    def run(
        self, batches: Iterable[np.ndarray], *, tta: Tta = NO_TTA
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The outputs of each batch, (B, n_labels), and familiarities, (B,).

        Args:
            batches: pixels (B, side, side, 1), taken one at a time.
            tta: test-time augmentation of the outputs.
        """
        with native_kernels(self.seen):
            for batch in batches:
                outputs, familiarity = self._one(batch)
                if tta != NO_TTA:
                    outputs = next(iter(forward(self.model, [batch], tta=tta)))
                yield outputs, familiarity

    def run_split(
        self, split: PreparedSplit, *, tta: Tta = NO_TTA
    ) -> tuple[np.ndarray, np.ndarray]:
        """The outputs (n, n_labels) and familiarities (n,) of every image of a split, in order."""
        outputs = np.zeros((len(split), self.model.output_shape[-1]), "float32")
        familiarity = np.zeros(len(split))
        starts = range(0, len(split), BATCH_SIZE)
        batches = (split.batch(slice(start, start + BATCH_SIZE)) for start in starts)
        with progress_bar("Running the network", len(split)) as bar:
            for start, (found, familiar) in zip(starts, self.run(batches, tta=tta), strict=True):
                place = slice(start, start + len(found))
                outputs[place], familiarity[place] = found, familiar
                bar.advance(len(found))
        return outputs, familiarity

    def corrections(self, pixels: np.ndarray) -> list[Correction | None]:
        """For each image the correction that makes it familiar, the most familiar of several.

        Args:
            pixels: uint8 (n, side, side), of images that are not.

        Returns:
            None for an image that none of `CORRECTIONS` makes familiar.
        """
        stacked = pixels[..., np.newaxis]
        changed = [np.ascontiguousarray(put_right(stacked)) for put_right in CORRECTIONS.values()]
        together = np.concatenate(changed)
        starts = range(0, len(together), BATCH_SIZE)
        with native_kernels(self.seen):
            parts = [self._one(together[start : start + BATCH_SIZE])[1] for start in starts]
        familiar = np.concatenate(parts).reshape(len(changed), len(pixels))
        best = familiar.argmax(axis=0)
        return [
            Correction(list(CORRECTIONS)[kind], changed[kind][image, ..., 0])
            if familiar[kind, image] >= UNLIKE
            else None
            for image, kind in enumerate(best)
        ]

    def _one(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs, *maps = self.seen.predict_on_batch(batch)
        # numpy's threads would wait for cores on which torch's wait for work
        with self._libraries.limit(limits=1, user_api="blas"):
            scores = self.guard.scores([pooled(found) for found in maps])
        return np.asarray(outputs, "float32"), self.guard.familiarity(scores)


def read_guard(file: Path) -> Guard | None:
    """The guard in a model file; None if it has none.

    Raises:
        ModelError: it has one that cannot be read.
    """
    content = model_file.read_guard(file)
    if content is None:
        return None
    try:
        return Guard.from_bytes(content)
    except (ValueError, KeyError, OSError, TypeError, EOFError, BadZipFile) as error:
        raise ModelError(f"{file} holds a guard that cannot be read ({error}).") from error


def depths_of(model: keras.Model) -> list[keras.KerasTensor]:
    """The last maps (N, h, w, c) of a network's deepest resolutions, at most three of them.

    Empty for a network without maps of its own, such as an ensemble.
    """
    last: dict[int, keras.KerasTensor] = {}
    for layer in model.layers[1:]:
        if isinstance(layer, keras.Model):
            return []
        tensor = layer.output
        one = not isinstance(tensor, list | tuple | dict)
        if one and len(tensor.shape) == 4 and not layer.name.startswith(ADAPTIVE):
            last[tensor.shape[1]] = tensor
    deepest = sorted(side for side in last if side is not None and side > 1)[:DEPTHS]
    return [last[side] for side in reversed(deepest)]


def make_guard(model: keras.Model, train: PreparedSplit, val: PreparedSplit) -> Guard | None:
    """The guard of a network that was trained.

    Args:
        model: the network.
        train: its training images, of which 1,000 at most are looked at.
        val: its validation images.

    Returns:
        None where there are fewer than 30 of either, or the network has no maps of its own.
    """
    maps = depths_of(model)
    if not maps or min(len(train), len(val)) < FEWEST:
        return None
    chosen = np.random.default_rng(0).permutation(len(train))[:MOST]
    places = [np.sort(chosen), np.arange(len(val))]
    trunk = keras.Model(model.input, maps)
    with (
        native_kernels(trunk),
        progress_bar("Making the guard", sum(map(len, places))) as bar,
    ):

        def features(split: PreparedSplit, rows: np.ndarray) -> Iterator[Sequence[np.ndarray]]:
            for start in range(0, len(rows), BATCH_SIZE):
                batch = split.batch(rows[start : start + BATCH_SIZE])
                found = trunk.predict_on_batch(batch)
                bar.advance(len(batch))
                yield [pooled(one) for one in (found if isinstance(found, list) else [found])]

        parts = zip((train, val), places, strict=True)
        return fit_guard(*(features(split, rows) for split, rows in parts))
