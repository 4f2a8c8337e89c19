"""The one loop that runs a network over images without training it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext

import keras
import numpy as np

from cxr_keras.data.preparation import PreparedSplit
from cxr_keras.inference.options import NO_TTA, Tta
from cxr_keras.inference.tta import VIEWS
from cxr_keras.models.torch_kernels import native_kernels
from cxr_keras.utils.console import progress_bar

BATCH_SIZE = 32


def forward(
    model: keras.Model, batches: Iterable[np.ndarray], *, tta: Tta = NO_TTA
) -> Iterator[np.ndarray]:
    """Run `model` on one batch after the other.

    Args:
        model: a network, or a part of one.
        batches: its inputs, each (B, …); taken one at a time, so that they need not all fit into
            memory.
        tta: the views of each image whose mean output counts, see `tta`; only for pixels.

    Yields:
        The outputs of each batch, float32 (B, …).
    """
    with native_kernels(model):
        for batch in batches:
            seen = [
                np.asarray(model.predict_on_batch(view(batch)), dtype="float32")
                for view in VIEWS[tta]
            ]
            yield seen[0] if len(seen) == 1 else np.mean(seen, axis=0)


def forward_split(
    model: keras.Model, split: PreparedSplit, *, tta: Tta = NO_TTA, quiet: bool = False
) -> np.ndarray:
    """The outputs of `model` for every image of `split`, float32 (n, …), in order.

    Args:
        model: a network, or a part of one.
        split: its inputs.
        tta: test-time augmentation, see `forward`.
        quiet: show no progress bar, while another one is shown.
    """
    outputs = np.zeros((len(split), *model.output_shape[1:]), dtype="float32")
    starts = range(0, len(split), BATCH_SIZE)
    batches = (split.batch(slice(start, start + BATCH_SIZE)) for start in starts)
    with nullcontext() if quiet else progress_bar("Running the network", len(split)) as bar:
        for start, result in zip(starts, forward(model, batches, tta=tta), strict=True):
            outputs[start : start + len(result)] = result
            if bar is not None:
                bar.advance(len(result))
    return outputs
