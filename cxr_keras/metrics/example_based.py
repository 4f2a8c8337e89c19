"""What the whole answer to each image is worth, not each label alone. Pure numpy and pandas.

Shapes are (n_samples, n_labels). Truth is 1, 0 or NaN (unknown): an image is measured on the labels
known of it, as if it were asked for no other. The measures are those of Zhang & Zhou, "A Review on
Multi-Label Learning Algorithms", 2014, as scikit-learn defines them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cxr_keras.errors import DataError
from cxr_keras.metrics.per_label import checked, split_truth

# Names that stand in samplewise.csv and cooccurrence.csv, where others read them.
NO_LABEL, NOTHING_PREDICTED = "no label", "nothing called"


def example_based_table(
    truth: ArrayLike, predicted: ArrayLike, probability: ArrayLike
) -> pd.DataFrame:
    """Measures of the set of labels predicted for each image, and of their ranking.

    Each image is measured on the labels known of it; one without any is left out. In the Hamming
    loss each known answer weighs the same, whatever image it is of; in the others each image.

    Args:
        truth: array-like of shape (n_samples, n_labels), 1, 0 or NaN (unknown).
        predicted: array-like of the same shape, 0 or 1.
        probability: array-like of the same shape, each in 0…1.

    Returns:
        Columns measure, value, meaning. Values are NaN where nothing is known of any image.

    Raises:
        DataError: shapes differ, or a value is out of range or infinite, or NaN but for truth.
    """
    arrays = checked(truth, probability, np.atleast_2d(truth).shape[1])
    number, length = arrays.truth.shape[1], len(arrays.truth)
    answers = _flags("Predicted labels", predicted, number, length)
    measured = arrays.known.any(axis=1)
    kept = slice(None) if measured.all() else measured  # a slice copies nothing
    true, known, score = (array[kept] for array in arrays)
    called = answers[kept] & known  # so that no unknown label is true or called
    both, either = (true & called).sum(axis=1), (true | called).sum(axis=1)
    excess = called.sum(axis=1) - true.sum(axis=1)
    rows = [
        (
            "exact match ratio",
            _mean((true == called).all(axis=1)),
            "share of images with every known label right; 1 is best",
        ),
        (
            "Hamming loss",
            _mean((true != called)[known]),
            "share of all known yes-or-no answers that are wrong; 0 is best",
        ),
        (
            "Jaccard index",
            _mean(np.where(either > 0, both / np.maximum(either, 1), 1.0)),
            "labels both true and predicted / true or predicted, mean over images; no label and "
            "nothing predicted is 1; 1 is best",
        ),
        (
            "label ranking loss",
            _mean(_ranking_loss(true, known, score)),
            "share of an image's pairs of a true and another label whose order is wrong or tied, "
            "mean over images; without such a pair 0; 0 is best",
        ),
        (
            "label-set size error",
            _mean(np.abs(excess)),
            "labels predicted too many or too few, mean over images; 0 is best",
        ),
        (
            "label-set size bias",
            _mean(excess),
            "labels predicted more than are true, mean over images; below 0 is too few",
        ),
    ]
    table = pd.DataFrame(rows, columns=["measure", "value", "meaning"])
    return table.astype({"value": float})


def cooccurrence(truth: ArrayLike, predicted: ArrayLike, labels: Sequence[str]) -> pd.DataFrame:
    """In how many images each label is true while each label is predicted.

    An image counts once for each pair of a label it has and a label predicted for it, so the
    cells of a row add up to more than its images. A label whose truth is unknown (NaN) is not
    counted as true; what is predicted counts whether its truth is known or not.

    Returns:
        One row per true label, one column per predicted label, and a column "nothing called" for
        images without a predicted label; a last row "no label" where some image is known to have
        none of the labels. The index is named "truth".

    Raises:
        DataError: shapes differ, or a value is not 0 or 1, nor NaN in truth.
    """
    flags, known = split_truth(_array("Truth", truth, len(labels)))
    predicted = _flags("Predicted labels", predicted, len(labels), len(flags))
    rows, columns = _with_none(flags), _with_none(predicted)
    rows[:, -1] &= known.all(axis=1)
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


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _ranking_loss(truth: np.ndarray, known: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Of each image, shape (n,), over pairs of labels known to be true and known not to be."""
    wrong, false = np.zeros(len(truth)), known & ~truth
    for i in range(truth.shape[1]):
        above = false & (probability >= probability[:, [i]])
        wrong += truth[:, i] * above.sum(axis=1)
    pairs = truth.sum(axis=1) * false.sum(axis=1)
    return wrong / np.maximum(pairs, 1)


def _with_none(flags: np.ndarray) -> np.ndarray:
    """The flags and a last column of the images that have none."""
    return np.column_stack([flags, ~flags.any(axis=1)])


def _flags(name: str, values: ArrayLike, number: int, length: int | None = None) -> np.ndarray:
    """`values` as bool, of shape (length, number)."""
    flags = _array(name, values, number, length)
    if not np.isin(flags, (0.0, 1.0)).all():
        raise DataError(f"{name} must be 0 or 1 everywhere; they hold other values.")
    return flags.astype(bool)


def _array(name: str, values: ArrayLike, number: int, length: int | None = None) -> np.ndarray:
    """`values` as float64, of shape (length, number)."""
    array = np.asarray(values, dtype=float)
    rows = "n_samples" if length is None else length
    if array.ndim != 2 or array.shape[1] != number or length not in (None, len(array)):
        raise DataError(f"{name} must have the shape ({rows}, {number}). Received: {array.shape}.")
    return array
