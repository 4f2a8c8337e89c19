"""Arrays in, tables out: the per-label measures of a multi-label classifier.

Shapes are (n_samples, n_labels) throughout. A measure that is undefined (the precision of a label
that was never predicted, the AUROC of a label with one class) is NaN, never a silent zero, and
each average says over how many labels it was taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr_keras.errors import DataError

MEASURES = ("precision", "accuracy", "recall", "f1", "auroc", "ap", "loss")
AVERAGE = "average of "
DEFINED_SUFFIX = ": labels averaged"
BASELINE_NO = 'baseline: always "no"'
BASELINE_RATES = "baseline: base rates"


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
        truth: array-like of shape (n_samples, n_labels), 0 or 1.
        probability: array-like of the same shape, each in 0…1.
        labels: names of the columns.
        normal: the label that says that there is no finding, if one of them does.
        thresholds: from which probability a label is predicted positive: one for all labels, or
            one per label.

    Returns:
        Columns label, support, precision, accuracy, recall, f1, auroc, ap (average precision),
        loss (binary cross-entropy). One row per label; then, for the findings (every label but
        `normal`) and, if `normal` is among the labels, for all of them, the mean of each measure
        over the labels on which it is defined, and a row with how many those are.

    Raises:
        DataError: shapes differ, or a value is out of range, NaN or infinite.
    """
    truth, probability = checked(truth, probability, len(labels))
    predicted = probability >= np.broadcast_to(np.asarray(thresholds, dtype=float), (len(labels),))
    rows = [
        {"label": label, "support": int(truth[:, i].sum())}
        | _measures(truth[:, i], predicted[:, i], probability[:, i])
        for i, label in enumerate(labels)
    ]
    table = pd.DataFrame(rows)
    averages = [
        row
        for name, columns in average_rows(labels, normal).items()
        for row in _average_rows(name, table.iloc[list(columns)])
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
        truth: array-like of shape (n_samples, n_labels), 0 or 1.
        labels: names of the columns.
        normal: the label that says that there is no finding, if one of them does.
        base_rates: of the labels in the training split; None leaves that row out.

    Returns:
        Averages over the findings (over all labels if there are none) of always answering "no",
        and of always answering the base rate, with a threshold of 0.5.
    """
    truth = np.asarray(truth)
    row = next(iter(average_rows(labels, normal)))
    answers = {BASELINE_NO: np.zeros(len(labels))}
    if base_rates is not None:
        answers[BASELINE_RATES] = np.asarray(base_rates, dtype=float)
    found = []
    for name, answer in answers.items():
        same = np.broadcast_to(answer, truth.shape)
        table = label_table(truth, same, labels=labels, normal=normal)
        found.append(table[table["label"] == row].assign(label=name))
    return pd.concat(found, ignore_index=True)


def prevalence_table(
    truth: ArrayLike, *, labels: Sequence[str], training: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """How often each label is true, beside how often it was in training.

    Args:
        truth: array-like of shape (n_samples, n_labels), 0 or 1.
        labels: names of the columns.
        training: label → share of the training images that have it; what it lacks is NaN.

    Returns:
        Columns label, support, prevalence (the share of the images) and training_prevalence.
    """
    flags = np.asarray(truth)
    known = training or {}
    return pd.DataFrame(
        {
            "label": list(labels),
            "support": flags.sum(axis=0).astype(int),
            "prevalence": flags.mean(axis=0),
            "training_prevalence": [float(known.get(label, np.nan)) for label in labels],
        }
    )


def average(table: pd.DataFrame, measure: str) -> float:
    """The mean of `measure` over the findings, out of a `label_table`: its first average row."""
    return float(table.loc[table["label"].str.startswith(AVERAGE), measure].iloc[0])


def binary_cross_entropy(truth: ArrayLike, probability: ArrayLike) -> float:
    """Mean binary cross-entropy over samples and labels, probabilities clipped to 1e-7."""
    truth = np.asarray(truth, dtype="float64")
    clipped = np.clip(np.asarray(probability, dtype="float64"), 1e-7, 1 - 1e-7)
    return float(-np.mean(truth * np.log(clipped) + (1 - truth) * np.log1p(-clipped)))


def checked(truth: ArrayLike, probability: ArrayLike, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth as booleans and probabilities as float64, both (n_samples, number).

    Raises:
        DataError: shapes differ, there is no sample, or a value is out of range, NaN or infinite.
    """
    truth, probability = np.asarray(truth, dtype=float), np.asarray(probability, dtype=float)
    if truth.shape != probability.shape or truth.ndim != 2 or truth.shape[1] != number:
        raise DataError(
            f"Truth and probabilities must both have the shape (n_samples, {number}). "
            f"Received: {truth.shape} and {probability.shape}."
        )
    if not len(truth):
        raise DataError("There is no sample to measure. Name a split or folder with images.")
    if not np.isin(truth, (0.0, 1.0)).all():
        raise DataError(
            "Truth must be 0 or 1 everywhere; it holds other values. Give 1 where an image has the "
            "label, 0 where it has not."
        )
    if not np.isfinite(probability).all() or probability.min() < 0 or probability.max() > 1:
        raise DataError(
            "Probabilities must lie in 0…1; they hold NaN, infinite or other values. Give the "
            "outputs of a sigmoid, not logits."
        )
    return truth.astype(bool), probability


def _measures(truth: np.ndarray, predicted: np.ndarray, score: np.ndarray) -> dict[str, float]:
    hits = int((truth & predicted).sum())
    one_class = truth.all() or not truth.any()
    return {
        "precision": _ratio(hits, int(predicted.sum())),
        "accuracy": float((truth == predicted).mean()),
        "recall": _ratio(hits, int(truth.sum())),
        "f1": _ratio(2 * hits, int(truth.sum()) + int(predicted.sum())),
        "auroc": float("nan") if one_class else float(roc_auc_score(truth, score)),
        "ap": float("nan") if one_class else float(average_precision_score(truth, score)),
        "loss": binary_cross_entropy(truth, score),
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _average_rows(name: str, rows: pd.DataFrame) -> list[dict[str, object]]:
    support = int(rows["support"].sum())
    means = {measure: rows[measure].mean() for measure in MEASURES}  # skips NaN
    counts = {measure: int(rows[measure].notna().sum()) for measure in MEASURES}
    return [
        {"label": name, "support": support} | means,
        {"label": name + DEFINED_SUFFIX, "support": len(rows)} | counts,
    ]
