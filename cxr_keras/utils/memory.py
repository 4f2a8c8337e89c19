"""How the process gets its memory from the system, and what it looks like when there is none."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_KEPT_BYTES = 1 << 30

_OUT_OF_MEMORY = ("OutOfMemoryError", "ResourceExhaustedError")  # torch's on CUDA, TensorFlow's
# torch's on the CPU and on mps, and JAX's, are no classes of their own
_NO_MEMORY_SIGNS = ("can't allocate memory", "out of memory", "resource_exhausted")


def keep_freed_memory() -> None:
    """Ask glibc to keep freed blocks for the next step of this process.

    Otherwise it returns large blocks to the system at once, and a training step spends a third
    of its time on faulting the same pages in again. The price: a process keeps the most memory
    that it ever had, but for what lies free above 1 GB at the end of it. It changes the whole
    process, so the library never calls it: the command line does, and a Python program may.
    Nothing happens where there is no glibc.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_MAX, 0)  # no block is a mapping; older glibcs limit its threshold
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, on the processor or on a GPU.

    Python and numpy raise `MemoryError`; torch, JAX and TensorFlow errors of their own, which are
    told by their names and texts, so that none of the three needs to be imported.
    """
    if isinstance(error, MemoryError):
        return True
    if type(error).__name__ in _OUT_OF_MEMORY:
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _NO_MEMORY_SIGNS)
