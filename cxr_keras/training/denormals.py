"""Training on torch with denormal numbers, those nearer to 0 than 1.2e-38, taken as 0.

The momentum of a weight that gets no gradient any more, a dead unit's, falls until it is such a
number, and stays one; so do activations and gradients that fade away. A processor computes with
them up to 27 times slower: AlexNet from random weights trained at less than half of its speed in
its fifth epoch on nih-128. JAX and TensorFlow are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Within the body torch takes denormal numbers as 0; afterwards this thread is as before.

    The switch is a thread's. Those that torch computes on take over that of the thread that starts
    them, so this comes before a process's first computation; what computed earlier in threads goes
    on as it was, right, and perhaps slow. On another backend than torch nothing changes.
    """
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    for kind in ("float32", "float64"):
        np.finfo(kind)  # numpy below 2.4 would warn of the switch when first asked for this
    before = torch.tensor(1e-40).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
