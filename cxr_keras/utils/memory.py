"""How the process gets its memory from the system."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Ask glibc to keep freed blocks of up to 1 GB for the next step of this process.

    Otherwise it returns large blocks to the system at once, and a training step spends a third
    of its time on faulting the same pages in again. It changes the whole process, so the library
    never calls it: the command line does, and a Python program may. Nothing happens where there
    is no glibc.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
