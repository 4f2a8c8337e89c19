"""Label names ↔ multi-hot vectors, apart from `labels`, which imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from cxr_keras.data.labels import LABELS, SEPARATOR, split_labels


def encode(names: Iterable[str], labels: Sequence[str] = LABELS) -> np.ndarray:
    """Multi-hot float32 vector of shape (n_labels,) of label names.

    Raises:
        KeyError: a name is none of `labels`.
    """
    place = {label: index for index, label in enumerate(labels)}
    vector = np.zeros(len(labels), dtype="float32")
    for name in names:
        vector[place[name]] = 1.0
    return vector


def encode_cells(cells: Iterable[str], labels: Sequence[str] = LABELS) -> np.ndarray:
    """Multi-hot float32 matrix of shape (n, n_labels) of clean `"A|B"` cells.

    A name that is none of `labels` is not looked at: a data set may have more.
    """
    place = {label: index for index, label in enumerate(labels)}
    seen: dict[str, list[int]] = {}  # of many images few cells differ
    cells = list(cells)
    matrix = np.zeros((len(cells), len(labels)), dtype="float32")
    for row, cell in enumerate(cells):
        if cell not in seen:
            seen[cell] = [place[name] for name in split_labels(cell) if name in place]
        matrix[row, seen[cell]] = 1.0
    return matrix


def decode(vector: ArrayLike, labels: Sequence[str] = LABELS) -> str:
    """The `"A|B"` cell of a multi-hot vector of shape (n_labels,); the inverse of `encode`."""
    flags = np.asarray(vector).astype(bool)
    return SEPARATOR.join(label for label, flag in zip(labels, flags, strict=True) if flag)


def decode_rows(flags: np.ndarray, labels: Sequence[str]) -> list[str]:
    """The `"A|B"` cell of each row of flags (n, n_labels); the inverse of `encode_cells`."""
    flags = np.asarray(flags, dtype=bool)
    cells: dict[bytes, str] = {}  # of many images few cells differ
    keys = [row.tobytes() for row in np.packbits(flags, axis=1)]
    for key, row in zip(keys, flags, strict=True):
        if key not in cells:
            cells[key] = decode(row, labels)
    return [cells[key] for key in keys]
