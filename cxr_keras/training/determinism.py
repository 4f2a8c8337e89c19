"""The same seed, the same weights on a GPU too: torch's switches for it, set and put back.

On a CPU a run repeats itself anyway. On CUDA some of torch's kernels add up in whatever order
their threads end, and cuDNN and cuBLAS choose among algorithms; see
https://docs.pytorch.org/docs/stable/notes/randomness.html.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from cxr_keras.errors import CxrError
from cxr_keras.utils.console import notice

WORKSPACE_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
_WORKSPACE = ":4096:8"  # as torch's documentation has it: eight buffers of 4 MB for each stream


def check_deterministic(wanted: bool) -> None:
    """Refuse `--deterministic` on another backend than torch.

    Args:
        wanted: whether it was given.

    Raises:
        CxrError: it is another one.
    """
    backend = keras.backend.backend()
    if wanted and backend != "torch":
        raise CxrError(
            f"--deterministic sets switches of torch, and KERAS_BACKEND is {backend}. Leave it "
            "out, or set KERAS_BACKEND=torch."
        )


@contextmanager
def deterministic_torch(wanted: bool) -> Iterator[None]:
    """Within the body, torch takes kernels that repeat themselves; afterwards it is as before.

    Args:
        wanted: see `check_deterministic`, which comes first; False leaves everything as it is.

    Raises:
        CxrError: a network with a step for which torch has no such kernel.
    """
    if not wanted:
        yield
        return
    import torch

    if torch.cuda.is_initialized() and WORKSPACE_VARIABLE not in os.environ:
        notice(
            f"CUDA has started without {WORKSPACE_VARIABLE}, which cuBLAS reads once: for the same "
            f"weights again set it to {_WORKSPACE} before this program starts."
        )
    workspace = os.environ.get(WORKSPACE_VARIABLE)
    os.environ.setdefault(WORKSPACE_VARIABLE, _WORKSPACE)
    cudnn = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
    )
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if "use_deterministic_algorithms" not in str(error):
            raise
        first_line = str(error).strip().splitlines()[0]
        raise CxrError(
            f"This network cannot be trained with --deterministic: {first_line} Leave it out."
        ) from error
    finally:
        algorithms, warn_only, cudnn.deterministic, cudnn.benchmark = before
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        if workspace is None:
            os.environ.pop(WORKSPACE_VARIABLE, None)
