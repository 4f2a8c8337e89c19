"""The 15 labels of NIH ChestX-ray14, their order, and `"A|B"` ⇄ multi-hot.

The order is alphabetical, as in the report's tables; it is the order of every probability
vector, every `prob_<label>` column and every network's 15 outputs.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

NO_FINDING = "No Finding"

LABELS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    NO_FINDING,
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
)
FINDINGS: tuple[str, ...] = tuple(label for label in LABELS if label != NO_FINDING)

_ALIASES = {"infiltrate": "Infiltration"}  # NIH's box list spells it so
_CANONICAL = {label.lower().replace(" ", "_"): label for label in LABELS} | _ALIASES


def canonical_label(name: str) -> str | None:
    """Return the label that `name` means, or None when it is none of the 15.

    Case, surrounding blanks and blank-for-underscore are forgiven; the box list's
    "Infiltrate" means Infiltration.
    """
    return _CANONICAL.get(name.strip().lower().replace(" ", "_"))


def split_labels(text: str) -> list[str]:
    """Split NIH's `"A|B"` cell into its names, blanks stripped, empty parts left out."""
    return [part for part in (part.strip() for part in text.split("|")) if part]


def encode(names: Iterable[str]) -> np.ndarray:
    """Multi-hot float32 vector of shape (15,) for canonical label names.

    Raises:
        KeyError: a name is none of `LABELS`.
    """
    vector = np.zeros(len(LABELS), dtype="float32")
    for name in names:
        vector[_INDEX[name]] = 1.0
    return vector


def encode_cells(cells: Iterable[str]) -> np.ndarray:
    """Multi-hot float32 matrix of shape (n, 15) for clean `"A|B"` cells."""
    rows = [encode(split_labels(cell)) for cell in cells]
    return np.stack(rows) if rows else np.zeros((0, len(LABELS)), dtype="float32")


def decode(vector: ArrayLike) -> str:
    """The `"A|B"` cell of a multi-hot vector of shape (15,); the inverse of `encode`."""
    flags = np.asarray(vector).astype(bool)
    return "|".join(label for label, flag in zip(LABELS, flags, strict=True) if flag)


_INDEX = {label: index for index, label in enumerate(LABELS)}
