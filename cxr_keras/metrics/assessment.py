"""Everything that a set of predictions says: measures, intervals, calibration, subgroups."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_keras.metrics import bootstrap, calibration, example_based, per_label, subgroups
from cxr_keras.metrics.interval_table import interval_table


@dataclass(frozen=True)
class Assessment:
    """The tables of one set of predictions.

    Attributes:
        labels: the labels measured, in order.
        normal: the one of them that says that there is no finding; None if none does.
        thresholds: label → the probability from which it is predicted positive.
        metrics: `interval_table` (auroc_low … f1_high), brier, ece and threshold; then the
            baselines' rows.
        example_based: measures over images in place of labels, see `example_based`.
        cooccurrence: images by true label and predicted label.
        subgroups: `subgroups.subgroup_table`; empty without subgroups.
        reliability: observed rate against mean probability, by bin.
        loss: mean binary cross-entropy over every known label of every image.
        images: how many, whether anything is known of them or not.
        contradictions: images where `normal` is predicted beside a finding.
        silent: images for which no label is predicted.
    """

    labels: tuple[str, ...]
    normal: str | None
    thresholds: dict[str, float]
    metrics: pd.DataFrame
    example_based: pd.DataFrame
    cooccurrence: pd.DataFrame
    subgroups: pd.DataFrame
    reliability: pd.DataFrame
    loss: float
    images: int
    contradictions: int
    silent: int


def assess_arrays(
    truth: np.ndarray,
    probability: np.ndarray,
    *,
    labels: Sequence[str],
    normal: str | None,
    thresholds: Sequence[float],
    patients: Iterable[Hashable],
    groups: pd.DataFrame,
    base_rates: Sequence[float] | None = None,
    resampling: bootstrap.Resampling | None = bootstrap.DEFAULT,
) -> Assessment:
    """Measure predictions.

    Args:
        truth: (n_samples, n_labels), 1, 0 or NaN: unknown, and left out of what is measured of the
            label.
        probability: the same shape, in 0…1.
        labels: names of the columns of both arrays.
        normal: the label that says that there is no finding, if one does.
        thresholds: one per label.
        patients: the patient of each image, of shape (n_samples,).
        groups: the subgroups of each image, see `subgroups.subgroup_table`.
        base_rates: share of the training images with each label, for the baseline row.
        resampling: of the bootstrap over patients; None leaves the intervals out.

    Raises:
        DataError: shapes differ, or a value is out of range or infinite, or a probability NaN.
    """
    probability = per_label.checked(truth, probability, len(labels)).probability
    truth = np.asarray(truth, dtype=float)
    normal = normal if normal in labels else None
    predicted = probability >= np.array(thresholds)
    averages = per_label.average_rows(labels, normal)
    people = pd.Series(list(patients))
    table = interval_table(
        truth,
        probability,
        people,
        labels=labels,
        normal=normal,
        thresholds=thresholds,
        resampling=resampling,
    )
    brier = calibration.brier_score(truth, probability)
    table["brier"] = table["label"].map(_by_row(brier, labels, averages))
    error = calibration.expected_calibration_error(truth, probability)
    table["ece"] = table["label"].map(_by_row(error, labels, averages))
    table["threshold"] = table["label"].map(dict(zip(labels, thresholds, strict=True)))
    floor = per_label.baselines(truth, labels=labels, normal=normal, base_rates=base_rates)
    return Assessment(
        labels=tuple(labels),
        normal=normal,
        thresholds=dict(zip(labels, map(float, thresholds), strict=True)),
        metrics=pd.concat([table, floor], ignore_index=True),
        example_based=_example_based(truth, predicted, probability),
        cooccurrence=example_based.cooccurrence(truth, predicted, labels),
        subgroups=subgroups.subgroup_table(
            groups,
            truth,
            probability,
            people,
            labels=labels,
            normal=normal,
            thresholds=thresholds,
            resampling=resampling,
        ),
        reliability=calibration.reliability_table(truth, probability, labels=labels),
        loss=per_label.binary_cross_entropy(truth, probability),
        images=len(truth),
        contradictions=example_based.contradictions(predicted, labels, normal),
        silent=example_based.silent(predicted),
    )


def _example_based(
    truth: np.ndarray, predicted: np.ndarray, probability: np.ndarray
) -> pd.DataFrame:
    """The measures over images, and what always answering "no" would score."""
    table = example_based.example_based_table(truth, predicted, probability)
    nothing = np.zeros_like(probability)
    floor = example_based.example_based_table(truth, nothing.astype(bool), nothing)
    table.insert(2, 'always "no"', floor["value"])
    return table


def _by_row(
    values: np.ndarray, labels: Sequence[str], averages: Mapping[str, Sequence[int]]
) -> dict[str, float]:
    """Label → its value, and each average row → the mean over its labels that have one."""
    means = {}
    for row, places in averages.items():
        defined = [value for value in values[list(places)] if not np.isnan(value)]
        means[row] = np.mean(defined) if defined else np.nan
    return dict(zip(labels, values, strict=True)) | means
