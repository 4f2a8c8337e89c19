"""Batches for Keras, straight from the pixel store, with no tf.data."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from cxr_keras.data.augmentation import Augmenter
from cxr_keras.data.preparation import PreparedSplit
from cxr_keras.utils.threads import usable_cores

_MOST_THREADS = 8


class RadiographLoader(keras.utils.PyDataset):
    """Batches of (pixels, truth): uint8 (B, side, side, 1) and float32 (B, n_labels), NaN
    where a label is not known.

    Samples, not batches, are shuffled anew every epoch, from a generator of the loader's own
    that depends on `seed` and the epoch's number only; so an epoch that is run again after an
    interruption sees the same batches. Pass `shuffle=False` to `fit`, which would otherwise
    shuffle the order of the batches as well.

    Args:
        split: the images to read.
        batch_size: images a batch; the last batch may be smaller.
        seed: shuffle with it; None keeps the manifest's order.
        augmenter: changes images as they are read; the pixels are then float32.
        sampler: "uniform" reads every image once an epoch; "balanced" draws as many with
            replacement, each as often as the rarest of its labels asks for, so that every label
            comes up alike.
        smoothing: of labels: 0 and 1 become smoothing / 2 and 1 - smoothing / 2.
        share: (rank, processes) of a training over several: of each batch this loader gives every
            so-manieth image, with the weight of each in the mean over all processes.
        **options: for `keras.utils.PyDataset`.
    """

    def __init__(
        self,
        split: PreparedSplit,
        batch_size: int,
        *,
        seed: int | None = None,
        augmenter: Augmenter | None = None,
        sampler: str = "uniform",
        smoothing: float = 0.0,
        share: tuple[int, int] = (0, 1),
        **options: Any,
    ):
        super().__init__(**options)
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.augmenter = augmenter if augmenter and augmenter.changes else None
        self.smoothing, self.share = smoothing, share
        self._chances = _chances(split.truth) if sampler == "balanced" else None
        self._gpu = _gpu()
        if self.augmenter:  # on the processor: threads beside a GPU keep it fed, and without one
            # a thread that augments would fight with training for the cores
            self.workers = 0 if self._gpu is None else min(_MOST_THREADS, usable_cores())
        self.start_epoch(0)

    def __len__(self) -> int:
        return math.ceil(len(self.split) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Batch number `index`, as arrays; on a GPU as tensors that are on their way there.

        Pixels and truth; of several processes the weight of each image, too.
        """
        whole = self.places(index)
        chosen = self._own(whole)
        pixels, truth = self.split.batch(chosen), self.split.truth[chosen]
        if self.augmenter:
            pixels, truth = self.augmenter(pixels, truth, chosen, self.epoch)
        if self.smoothing:
            truth = truth * np.float32(1 - self.smoothing) + np.float32(self.smoothing / 2)
        if self.share[1] == 1:
            return self._move(pixels), self._move(truth)
        weights = np.full(len(chosen), self._weight(whole), dtype="float32")
        return self._move(pixels), self._move(truth), self._move(weights)

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        self.start_epoch(self.epoch + 1)

    def start_epoch(self, epoch: int) -> None:
        """Take the order of epoch number `epoch`, whatever came before."""
        self.epoch = epoch
        if self.seed is None:
            self._order = np.arange(len(self.split))
            return
        rng = np.random.default_rng([self.seed, epoch])
        if self._chances is None:
            self._order = rng.permutation(len(self.split))
        else:
            self._order = rng.choice(len(self.split), len(self.split), p=self._chances)

    def places(self, index: int) -> np.ndarray:
        """Which samples of the split batch number `index` holds."""
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]

    def _own(self, places: np.ndarray) -> np.ndarray:
        """This process's part of a batch; its first image, which then weighs nothing, for none."""
        rank, processes = self.share
        own = places[rank::processes]
        return own if len(own) else places[:1]

    def _weight(self, whole: np.ndarray) -> float:
        """What an image of this process weighs, so that the mean over processes is the batch's.

        A loss is a mean over the known labels of the images that it is given.
        """
        rank, processes = self.share
        known = (~np.isnan(self.split.truth[whole])).sum(axis=1)
        return float(known[rank::processes].sum() * processes / max(known.sum(), 1))

    def _move(self, array: np.ndarray) -> Any:
        """To where the network is."""
        return array if self._gpu is None else _copied(array, self._gpu)


def _chances(truth: np.ndarray) -> np.ndarray:
    """How probable each image is to be drawn: as one over the share of its rarest label."""
    truth = np.nan_to_num(truth)  # what is not known asks for nothing
    share = np.maximum(truth.mean(axis=0), 1 / max(len(truth), 1))
    weight = (truth / share).max(axis=1)
    weight = np.where(weight > 0, weight, 1.0).astype("float64")
    return np.asarray(weight / weight.sum())


def _gpu() -> Any | None:
    """The CUDA device of torch's that Keras puts tensors on; None where it uses another.

    Asked once: which one is current is another matter in each thread.
    """
    if keras.backend.backend() != "torch":
        return None
    device = keras.ops.convert_to_tensor(0).device
    return device if device.type == "cuda" else None


def _copied(array: np.ndarray, gpu: Any) -> Any:
    """The array on the GPU, copied from pinned memory so that nothing waits for the copy."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(array)).pin_memory().to(gpu, non_blocking=True)
