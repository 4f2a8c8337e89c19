"""What the whole answer to each image is worth, not each label alone. Pure numpy and pandas.

Shapes are (n_samples, n_labels). The measures are those of Zhang & Zhou, "A Review on Multi-Label
Learning Algorithms", 2014, as scikit-learn defines them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cxr_keras.data.labels import NO_FINDING
from cxr_keras.errors import DataError
from cxr_keras.metrics.per_label import checked

NO_LABEL, NOTHING_CALLED = "no label", "nothing called"


def samplewise_table(truth: ArrayLike, called: ArrayLike, probability: ArrayLike) -> pd.DataFrame:
    """Measures of the set of labels called for each image, and of their order.

    Args:
        truth: array-like of shape (n_samples, n_labels), 0 or 1.
        called: array-like of the same shape, 0 or 1.
        probability: array-like of the same shape, each in 0…1.

    Returns:
        Columns measure, value, meaning.

    Raises:
        DataError: shapes differ, or a value is out of range, NaN or infinite.
    """
    truth, probability = checked(truth, probability, np.atleast_2d(truth).shape[1])
    called = _flags("Called labels", called, truth.shape[1], len(truth))
    both, either = (truth & called).sum(axis=1), (truth | called).sum(axis=1)
    excess = called.sum(axis=1) - truth.sum(axis=1)
    rows = [
        (
            "exact match ratio",
            (truth == called).all(axis=1).mean(),
            "share of images with every label right; 1 is best",
        ),
        (
            "Hamming loss",
            (truth != called).mean(),
            "share of all yes-or-no answers that are wrong; 0 is best",
        ),
        (
            "Jaccard index",
            np.where(either > 0, both / np.maximum(either, 1), 1.0).mean(),
            "labels both true and called / true or called, mean over images; no label and nothing "
            "called is 1; 1 is best",
        ),
        (
            "label ranking loss",
            _ranking_loss(truth, probability).mean(),
            "share of an image's pairs of a true and another label whose order is wrong or tied, "
            "mean over images; without such a pair 0; 0 is best",
        ),
        (
            "label-set size error",
            np.abs(excess).mean(),
            "labels called too many or too few, mean over images; 0 is best",
        ),
        (
            "label-set size bias",
            excess.mean(),
            "labels called more than are true, mean over images; below 0 is too few",
        ),
    ]
    table = pd.DataFrame(rows, columns=["measure", "value", "meaning"])
    return table.astype({"value": float})


def cooccurrence(truth: ArrayLike, called: ArrayLike, labels: Sequence[str]) -> pd.DataFrame:
    """In how many images each label was true while each label was called.

    An image counts in every cell of a label it has and a label it was called: cells overlap.

    Returns:
        A row a true label, a column a called one, and a column "nothing called"; a last row "no
        label" where some image has none. The index is named "truth".

    Raises:
        DataError: shapes differ, or a value is not 0 or 1.
    """
    truth = _flags("Truth", truth, len(labels))
    called = _flags("Called labels", called, len(labels), len(truth))
    rows, columns = _with_none(truth), _with_none(called)
    counts = pd.DataFrame(
        rows.T.astype(int) @ columns.astype(int),
        index=pd.Index([*labels, NO_LABEL], name="truth"),
        columns=[*labels, NOTHING_CALLED],
    )
    return counts if rows[:, -1].any() else counts.iloc[:-1]


def contradictions(called: ArrayLike, labels: Sequence[str]) -> int:
    """How many images were called No Finding and a finding; 0 where labels lack No Finding."""
    return int(_contradictory(_flags("Called labels", called, len(labels)), labels).sum())


def silent(called: ArrayLike) -> int:
    """For how many images nothing was called."""
    called = _flags("Called labels", called, np.atleast_2d(called).shape[1])
    return int((~called.any(axis=1)).sum())


def _contradictory(called: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Flags (n,) of the images called No Finding and something else."""
    none = np.array([label == NO_FINDING for label in labels])
    return np.logical_and(called[:, none].any(axis=1), called[:, ~none].any(axis=1))


def _ranking_loss(truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Of each image, shape (n,)."""
    wrong = np.zeros(len(truth))
    for i in range(truth.shape[1]):
        above = ~truth & (probability >= probability[:, [i]])
        wrong += truth[:, i] * above.sum(axis=1)
    pairs = truth.sum(axis=1) * (~truth).sum(axis=1)
    return wrong / np.maximum(pairs, 1)


def _with_none(flags: np.ndarray) -> np.ndarray:
    """The flags and a last column of the images that have none."""
    return np.column_stack([flags, ~flags.any(axis=1)])


def _flags(name: str, values: ArrayLike, number: int, length: int | None = None) -> np.ndarray:
    """`values` as bool, of shape (length, number)."""
    flags = np.asarray(values, dtype=float)
    rows = "n_samples" if length is None else length
    if flags.ndim != 2 or flags.shape[1] != number or length not in (None, len(flags)):
        raise DataError(f"{name} must have the shape ({rows}, {number}). Received: {flags.shape}.")
    if not np.isin(flags, (0.0, 1.0)).all():
        raise DataError(f"{name} must be 0 or 1 everywhere; they hold other values.")
    return flags.astype(bool)
