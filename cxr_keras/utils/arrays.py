"""Arrays larger than memory: written row by row, read through a memory map."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


@contextmanager
def row_writer(path: Path, shape: tuple[int, ...], dtype: str) -> Iterator[BinaryIO]:
    """Open a new .npy file of a known shape; the body writes its rows' bytes in order.

    Plain writes: a full disk raises `OSError`, where a memory map would kill the process.
    """
    with path.open("wb") as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def open_rows(path: Path) -> np.ndarray:
    """The array of a .npy file, memory-mapped and read-only."""
    return np.load(path, mmap_mode="r")


def take_rows(array: np.ndarray, rows: Any) -> np.ndarray:
    """Copies of `rows` of a memory-mapped array (or any other).

    The pages that were read leave the process's memory again and stay in the system's cache;
    otherwise an epoch over NIH's full set would show as gigabytes of this process.
    """
    taken = np.array(array[rows])
    base = getattr(array, "_mmap", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        base.madvise(mmap.MADV_DONTNEED)
    return taken
