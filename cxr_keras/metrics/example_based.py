"""What the whole answer to each image is worth, not each label alone. Pure numpy and pandas.

Shapes are (n_samples, n_labels). The measures are those of Zhang & Zhou, "A Review on Multi-Label
Learning Algorithms", 2014, as scikit-learn defines them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cxr_keras.errors import DataError
from cxr_keras.metrics.per_label import checked

# Names that stand in samplewise.csv and cooccurrence.csv, where others read them.
NO_LABEL, NOTHING_PREDICTED = "no label", "nothing called"


def example_based_table(
    truth: ArrayLike, predicted: ArrayLike, probability: ArrayLike
) -> pd.DataFrame:
    """Measures of the set of labels predicted for each image, and of their ranking.

    Args:
        truth: array-like of shape (n_samples, n_labels), 0 or 1.
        predicted: array-like of the same shape, 0 or 1.
        probability: array-like of the same shape, each in 0…1.

    Returns:
        Columns measure, value, meaning.

    Raises:
        DataError: shapes differ, or a value is out of range, NaN or infinite.
    """
    truth, probability = checked(truth, probability, np.atleast_2d(truth).shape[1])
    predicted = _flags("Predicted labels", predicted, truth.shape[1], len(truth))
    both, either = (truth & predicted).sum(axis=1), (truth | predicted).sum(axis=1)
    excess = predicted.sum(axis=1) - truth.sum(axis=1)
    rows = [
        (
            "exact match ratio",
            (truth == predicted).all(axis=1).mean(),
            "share of images with every label right; 1 is best",
        ),
        (
            "Hamming loss",
            (truth != predicted).mean(),
            "share of all yes-or-no answers that are wrong; 0 is best",
        ),
        (
            "Jaccard index",
            np.where(either > 0, both / np.maximum(either, 1), 1.0).mean(),
            "labels both true and predicted / true or predicted, mean over images; no label and "
            "nothing predicted is 1; 1 is best",
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
            "labels predicted too many or too few, mean over images; 0 is best",
        ),
        (
            "label-set size bias",
            excess.mean(),
            "labels predicted more than are true, mean over images; below 0 is too few",
        ),
    ]
    table = pd.DataFrame(rows, columns=["measure", "value", "meaning"])
    return table.astype({"value": float})


def cooccurrence(truth: ArrayLike, predicted: ArrayLike, labels: Sequence[str]) -> pd.DataFrame:
    """In how many images each label is true while each label is predicted.

    An image counts once for each pair of a label it has and a label predicted for it, so the
    cells of a row add up to more than its images.

    Returns:
        One row per true label, one column per predicted label, and a column "nothing called" for
        images without a predicted label; a last row "no label" where some image has none. The
        index is named "truth".

    Raises:
        DataError: shapes differ, or a value is not 0 or 1.
    """
    truth = _flags("Truth", truth, len(labels))
    predicted = _flags("Predicted labels", predicted, len(labels), len(truth))
    rows, columns = _with_none(truth), _with_none(predicted)
    counts = pd.DataFrame(
        rows.T.astype(int) @ columns.astype(int),
        index=pd.Index([*labels, NO_LABEL], name="truth"),
        columns=[*labels, NOTHING_PREDICTED],
    )
    return counts if rows[:, -1].any() else counts.iloc[:-1]


def contradictions(predicted: ArrayLike, labels: Sequence[str], normal: str | None) -> int:
    """How many images are predicted both `normal` and another label; 0 where no label is normal."""
    predicted = _flags("Predicted labels", predicted, len(labels))
    none = np.array([label == normal for label in labels])
    both = predicted[:, none].any(axis=1) & predicted[:, ~none].any(axis=1)
    return int(both.sum())


def silent(predicted: ArrayLike) -> int:
    """For how many images no label is predicted."""
    predicted = _flags("Predicted labels", predicted, np.atleast_2d(predicted).shape[1])
    return int((~predicted.any(axis=1)).sum())


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
