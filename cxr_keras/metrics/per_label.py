"""Arrays in, tables out: the per-label measures of a multi-label classifier.

Shapes are (n_samples, n_labels) throughout. Truth is 1, 0 or NaN. NaN is unknown: what is measured
of a label is measured as if the images whose truth of it is unknown were not there.

A measure that is undefined (the precision of a label that was never predicted, the AUROC of a
label with one class) is NaN, never a silent zero, and each average says over how many labels it was
taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cxr_keras.errors import DataError
from cxr_keras.metrics.weighted import auroc_and_ap_once

MEASURES = ("precision", "accuracy", "recall", "f1", "auroc", "ap", "loss")
AVERAGE = "average of "
DEFINED_SUFFIX = ": labels averaged"
BASELINE_NO = 'baseline: always "no"'
BASELINE_RATES = "baseline: base rates"


class Checked(NamedTuple):
    """Arrays to measure, each of shape (n_samples, n_labels)."""

    truth: np.ndarray  # bool, False where it is unknown
    known: np.ndarray  # bool
    probability: np.ndarray  # float64


def label_table(
    truth: ArrayLike,
    probability: ArrayLike,
    *,
    labels: Sequence[str],
    normal: str | None = None,
    thresholds: float | Sequence[float] = 0.5,
) -> pd.DataFrame:
    """The per-label table with its average rows.

    Args:
        truth: array-like of shape (n_samples, n_labels), 1, 0 or NaN (unknown).
        probability: array-like of the same shape, each in 0…1.
        labels: names of the columns.
        normal: the label that says that there is no finding, if one of them does.
        thresholds: from which probability a label is predicted positive: one for all labels, or
            one per label.

    Returns:
        Columns label, support (images that have the label), known (images of which it is known
        whether they have it: those that the row rests on), precision, accuracy, recall, f1, auroc,
        ap (average precision), loss (binary cross-entropy). One row per label; then, for the
        findings (every label but `normal`) and, if `normal` is among the labels, for all of them,
        the mean of each measure over the labels on which it is defined, beside the sum of their
        support and the images of which any of them is known; and a row with how many labels those
        are, beside how many there are and how many are known of any image.

    Raises:
        DataError: shapes differ, a value is out of range or infinite, or a probability NaN.
    """
    truth, known, probability = checked(truth, probability, len(labels))
    predicted = probability >= np.broadcast_to(np.asarray(thresholds, dtype=float), (len(labels),))
    rows = []
    for i, label in enumerate(labels):
        seen = known[:, i]
        counts = {"label": label, "support": int(truth[:, i].sum()), "known": int(seen.sum())}
        rows.append(counts | _measures(truth[seen, i], predicted[seen, i], probability[seen, i]))
    table = pd.DataFrame(rows)
    averages = [
        row
        for name, columns in average_rows(labels, normal).items()
        for row in _average_rows(name, table.iloc[columns], known[:, columns])
    ]
    return pd.concat([table, pd.DataFrame(averages)], ignore_index=True)


def average_rows(labels: Sequence[str], normal: str | None) -> dict[str, list[int]]:
    """Names of the average rows of `labels` → positions of the labels that each covers.

    The findings (every label but `normal`) come first; then all labels, if `normal` is one.
    """
    findings = [i for i, label in enumerate(labels) if label != normal]
    rows = {}
    if findings:
        rows[f"{AVERAGE}{len(findings)} findings"] = findings
    if len(findings) < len(labels):
        rows[f"{AVERAGE}all {len(labels)}"] = list(range(len(labels)))
    return rows


def baselines(
    truth: ArrayLike,
    *,
    labels: Sequence[str],
    normal: str | None = None,
    base_rates: Sequence[float] | None = None,
) -> pd.DataFrame:
    """What is scored without looking at an image: rows like `label_table`'s averages.

    Args:
        truth: array-like of shape (n_samples, n_labels), 1, 0 or NaN (unknown).
        labels: names of the columns.
        normal: the label that says that there is no finding, if one of them does.
        base_rates: of the labels in the training split; None leaves that row out, and NaN for a
            label leaves the label out of it.

    Returns:
        Averages over the findings (over all labels if there are none) of always answering "no",
        and of always answering the base rate, with a threshold of 0.5.
    """
    truth = np.asarray(truth, dtype=float)
    row = next(iter(average_rows(labels, normal)))
    answers = {BASELINE_NO: np.zeros(len(labels))}
    if base_rates is not None:
        answers[BASELINE_RATES] = np.asarray(base_rates, dtype=float)
    found = []
    for name, answer in answers.items():
        answered = np.where(np.isnan(answer), np.nan, truth)
        same = np.broadcast_to(np.nan_to_num(answer), truth.shape)
        table = label_table(answered, same, labels=labels, normal=normal)
        found.append(table[table["label"] == row].assign(label=name))
    return pd.concat(found, ignore_index=True)


def prevalence_table(
    truth: ArrayLike, *, labels: Sequence[str], training: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """How often each label is true, beside how often it was in training.

    Args:
        truth: array-like of shape (n_samples, n_labels), 1, 0 or NaN (unknown).
        labels: names of the columns.
        training: label → share of the training images that have it; what it lacks is NaN.

    Returns:
        Columns label, support, known, prevalence (the share of the images of which the label is
        known; NaN where there is none) and training_prevalence.

    Raises:
        DataError: a value of the truth is not 1, 0 or NaN.
    """
    flags, known = split_truth(truth)
    support, before = flags.sum(axis=0), training or {}
    return pd.DataFrame(
        {
            "label": list(labels),
            "support": support,
            "known": known.sum(axis=0),
            "prevalence": per_known(support, known),
            "training_prevalence": [float(before.get(label, np.nan)) for label in labels],
        }
    )


def average(table: pd.DataFrame, measure: str) -> float:
    """The mean of `measure` over the findings, out of a `label_table`: its first average row."""
    return float(table.loc[table["label"].str.startswith(AVERAGE), measure].iloc[0])


def binary_cross_entropy(truth: ArrayLike, probability: ArrayLike) -> float:
    """Mean binary cross-entropy over all entries whose truth is known; NaN where there is none.

    Args:
        truth: array-like of any shape, 1, 0 or NaN (unknown).
        probability: array-like of the same shape, each in 0…1; clipped to 1e-7.
    """
    flags, clipped = np.asarray(truth, "float64"), np.asarray(probability, "float64")
    known = ~np.isnan(flags)
    if not known.all():
        flags, clipped = flags[known], clipped[known]
    if not flags.size:
        return float("nan")
    clipped = np.clip(clipped, 1e-7, 1 - 1e-7)
    return float(-np.mean(flags * np.log(clipped) + (1 - flags) * np.log1p(-clipped)))


def checked(truth: ArrayLike, probability: ArrayLike, number: int) -> Checked:
    """Truth, where it is known, and probabilities, each of shape (n_samples, number).

    Raises:
        DataError: shapes differ, there is no sample, the truth is not 1, 0 or NaN, or a
            probability is out of range, NaN or infinite.
    """
    truth, probability = np.asarray(truth, dtype=float), np.asarray(probability, dtype=float)
    if truth.shape != probability.shape or truth.ndim != 2 or truth.shape[1] != number:
        raise DataError(
            f"Truth and probabilities must both have the shape (n_samples, {number}). "
            f"Received: {truth.shape} and {probability.shape}."
        )
    if not len(truth):
        raise DataError("There is no sample to measure. Name a split or folder with images.")
    flags, known = split_truth(truth)
    if not np.isfinite(probability).all() or probability.min() < 0 or probability.max() > 1:
        raise DataError(
            "Probabilities must lie in 0…1; they hold NaN, infinite or other values. Give the "
            "outputs of a sigmoid, not logits."
        )
    return Checked(flags, known, probability)


def split_truth(truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Which labels are true and which are known, both bool, of the truth's shape.

    Raises:
        DataError: a value is not 1, 0 or NaN.
    """
    values = np.asarray(truth, dtype=float)
    flags, known = values == 1, ~np.isnan(values)
    if not (flags | (values == 0) | ~known).all():
        raise DataError(
            "Truth must be 0, 1 or NaN (unknown) everywhere; it holds other values. Give 1 where "
            "an image has the label, 0 where it has not, NaN where nobody knows."
        )
    return flags, known


def per_known(total: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Means over the images of which each label is known; NaN for a label known of none.

    Args:
        total: of each label the sum over these images, (n_labels,).
        known: of which images each label is known, (n_samples, n_labels), bool.
    """
    number = known.sum(axis=0)
    return np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0)


def _measures(truth: np.ndarray, predicted: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """Of one label, from the images of which it is known: flags and scores, each (n,)."""
    hits = int((truth & predicted).sum())
    auroc, ap = auroc_and_ap_once(truth, score)
    return {
        "precision": _ratio(hits, int(predicted.sum())),
        "accuracy": _ratio(int((truth == predicted).sum()), len(truth)),
        "recall": _ratio(hits, int(truth.sum())),
        "f1": _ratio(2 * hits, int(truth.sum()) + int(predicted.sum())),
        "auroc": float(auroc),
        "ap": float(ap),
        "loss": binary_cross_entropy(truth, score),
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _average_rows(name: str, rows: pd.DataFrame, known: np.ndarray) -> list[dict[str, object]]:
    support, images = int(rows["support"].sum()), int(known.any(axis=1).sum())
    means = {measure: rows[measure].mean() for measure in MEASURES}  # skips NaN
    counts = {measure: int(rows[measure].notna().sum()) for measure in MEASURES}
    anywhere = int(known.any(axis=0).sum())
    return [
        {"label": name, "support": support, "known": images} | means,
        {"label": name + DEFINED_SUFFIX, "support": len(rows), "known": anywhere} | counts,
    ]
