"""Steps of an optimizer on torch that take denormal numbers, nearer to 0 than 1.2e-38, as 0.

The momentum of a weight that gets no gradient any more, a dead unit's, falls until it is such a
number, and stays one. A processor computes with these up to 27 times slower: more than half of a
long training of AlexNet went into its dead units. JAX and TensorFlow flush them to 0 by themselves.
The switch is on within the steps only, for numpy warns where it finds it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras


@contextmanager
def denormals_flushed(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Within the body, the steps of `optimizer` take denormal numbers as 0; then it is as before.

    Args:
        optimizer: any; on another backend than torch nothing changes.
    """
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    apply, own = optimizer.apply, vars(optimizer).get("apply")
    before = torch.tensor(1e-40).item() == 0

    def apply_flushed(grads: Any, trainable_variables: Any = None) -> None:
        torch.set_flush_denormal(True)
        try:
            apply(grads, trainable_variables)
        finally:
            torch.set_flush_denormal(before)

    optimizer.apply = apply_flushed
    try:
        yield
    finally:
        del optimizer.apply
        if own is not None:
            optimizer.apply = own
