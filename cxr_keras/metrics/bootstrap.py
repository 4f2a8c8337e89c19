"""How sure the measures are: bootstrap intervals over patients, and paired differences.

What is drawn is patients, never images: the images of one patient resemble each other, and an
interval that took them for independent would be too narrow. A resample draws as many patients as
there are, with replacement, and takes every image of each as often as its patient was drawn
(Field & Welsh, "Bootstrapping clustered data", JRSS B 69, 2007). The interval lies between
percentiles of the resamples (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993,
chapter 13).

A resample is a vector of whole-number weights: each label is sorted and each patient's images are
counted once, and each resample weighs the counts, in sums that are exact until they are divided.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cxr_keras.errors import DataError
from cxr_keras.metrics.options import RESAMPLES
from cxr_keras.metrics.per_label import checked
from cxr_keras.metrics.weighted import (
    Counts,
    Ranking,
    auroc_and_ap,
    count_patients,
    rank_images,
)

MEASURES = ("auroc", "ap")
AT_THRESHOLD = ("precision", "recall", "f1")
MIN_PATIENTS = 5  # of either class, for an interval
_BLOCK_BYTES = 96 * 2**20  # what one block of resamples may take, in
_ARRAYS = 8  # arrays of up to (block, n_samples) float64 at once


@dataclass(frozen=True)
class Resampling:
    """How a bootstrap draws, and what it says of the draws.

    The same seed draws the same patients, in whatever order the images come.

    Attributes:
        resamples: how often to draw the patients anew.
        seed: of the draws.
        level: share of the resamples inside an interval.
        min_patients: known to be of either class, for a label to have bounds; of those predicted
            positive, for its precision to have them.
        progress: called after each block with the number of resamples in it.

    Raises:
        DataError: `resamples` is below 1, `seed` below 0, or `level` not between 0 and 1.
    """

    resamples: int = RESAMPLES
    seed: int = 0
    level: float = 0.95
    min_patients: int = MIN_PATIENTS
    progress: Callable[[int], object] | None = None

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise DataError(
                f"Resamples must be 1 or more (1000 is usual). Received: {self.resamples}."
            )
        if self.seed < 0:
            raise DataError(f"The seed must be 0 or more. Received: {self.seed}.")
        if not 0 < self.level < 1:
            raise DataError(
                f"The level must lie between 0 and 1 (0.95 is usual). Received: {self.level}."
            )


DEFAULT = Resampling()


def intervals(
    truth: ArrayLike,
    probability: ArrayLike,
    patients: Iterable[Hashable],
    *,
    labels: Sequence[str],
    averages: Mapping[str, Sequence[int]],
    predicted: ArrayLike | None = None,
    resampling: Resampling = DEFAULT,
) -> pd.DataFrame:
    """The measures of each label, with percentile intervals over patients.

    Args:
        truth: array-like of shape (n_samples, n_labels), 1, 0 or NaN (unknown). Patients are drawn
            from all; then each label leaves out the images whose truth of it is unknown.
        probability: array-like of the same shape, each in 0…1.
        patients: the patient of each image, of shape (n_samples,).
        labels: names of the columns.
        averages: name of an average row → positions of the columns it is the mean of.
        predicted: which labels are predicted positive, of the same shape, 0 or 1, for precision,
            recall and F1; without it they are left out.
        resampling: how to draw.

    Returns:
        Columns label, auroc, auroc_low, auroc_high, then the same of ap, precision, recall and f1:
        one row per label, then one per average. An undefined measure is NaN, and so are the bounds
        of a label that fewer than `min_patients` are known to have, or to lack, and of an average
        without any label that has bounds: from so few the percentiles come out far too close. So
        they do where every resample agrees, as on a recall of 0 or 1: precision, recall and F1 have
        no bounds there. A resample that leaves a label undefined is left out for this label. Its
        averages of AUROC and average precision are over the labels that it defines. In those of
        precision, recall and F1 the others count with their value on all images: without a label
        that is never found, recall would rise by far.

    Raises:
        DataError: shapes differ, a value is out of range or infinite, a probability NaN, a patient
            missing.
    """
    hits, known, score = checked(truth, probability, len(labels))
    codes = _patient_codes(patients, len(hits))
    counts = None
    if predicted is not None:
        counts = count_patients(hits, _positive(predicted, hits.shape) & known, codes)
    point, drawn = _resampled(hits, known, [score], codes, averages, resampling, counts=counts)
    table = pd.DataFrame({"label": [*labels, *averages]})
    for i, measure in enumerate(MEASURES if counts is None else MEASURES + AT_THRESHOLD):
        low, high = _percentiles(drawn[0, i], resampling.level)
        if measure in AT_THRESHOLD:
            low, high = np.where(low < high, (low, high), np.nan)
        table[measure], table[f"{measure}_low"], table[f"{measure}_high"] = point[0, i], low, high
    fewest = resampling.min_patients
    if counts is not None:
        rare = np.flatnonzero((counts.predicted > 0).sum(axis=0) < fewest)
        table.loc[rare, ["precision_low", "precision_high"]] = np.nan
    return _without_scarce(table, hits, known, codes, averages, fewest)


def paired_differences(
    truth: ArrayLike,
    probability_a: ArrayLike,
    probability_b: ArrayLike,
    patients: Iterable[Hashable],
    *,
    labels: Sequence[str],
    averages: Mapping[str, Sequence[int]],
    resampling: Resampling = DEFAULT,
) -> pd.DataFrame:
    """What b gains over a on the same images: both are measured on the same resamples.

    p is two-sided, not corrected for the number of labels: twice the smaller of the shares of
    resamples with a difference ≤ 0 and ≥ 0, at most 1. Each share counts one resample more than
    was drawn, so p is never 0 (Davison & Hinkley, "Bootstrap Methods and their Application", 1997).

    Arguments and errors are those of `intervals`, with `probability_a` and `probability_b`
    of shape (n_samples, n_labels) for `probability`.

    Returns:
        Columns label, auroc_a, auroc_b, auroc_difference (b - a), auroc_low and auroc_high (of
        the difference), auroc_p, and the same six for ap; rows and NaN as in `intervals`.
    """
    hits, known, score_a = checked(truth, probability_a, len(labels))
    score_b = checked(truth, probability_b, len(labels)).probability
    codes = _patient_codes(patients, len(hits))
    (a, b), (drawn_a, drawn_b) = _resampled(
        hits, known, [score_a, score_b], codes, averages, resampling
    )
    differences = drawn_b - drawn_a
    table = pd.DataFrame({"label": [*labels, *averages]})
    for i, measure in enumerate(MEASURES):
        low, high = _percentiles(differences[i], resampling.level)
        table[f"{measure}_a"], table[f"{measure}_b"] = a[i], b[i]
        table[f"{measure}_difference"] = b[i] - a[i]
        table[f"{measure}_low"], table[f"{measure}_high"] = low, high
        table[f"{measure}_p"] = _two_sided_p(differences[i])
    return _without_scarce(table, hits, known, codes, averages, resampling.min_patients)


def _without_scarce(
    table: pd.DataFrame,
    truth: np.ndarray,
    known: np.ndarray,
    codes: np.ndarray,
    averages: Mapping[str, Sequence[int]],
    fewest: int,
) -> pd.DataFrame:
    """Bounds and p become NaN for labels that too few patients are known to have, or to lack.

    So do those of an average over such labels alone.
    """
    scarce = [
        min(len(np.unique(codes[having])), len(np.unique(codes[lacking]))) < fewest
        for having, lacking in zip(truth.T, (known & ~truth).T, strict=True)
    ]
    scarce += [all(scarce[place] for place in places) for places in averages.values()]
    doubtful = [name for name in table if name.endswith(("_low", "_high", "_p"))]
    table.loc[np.flatnonzero(scarce), doubtful] = np.nan
    return table


def _positive(predicted: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    flags = np.asarray(predicted)
    if flags.shape != shape or not np.isin(flags, (0, 1)).all():
        raise DataError(
            f"Predicted labels must be 0 or 1, of the shape {shape}. Received: {flags.shape}."
        )
    return flags.astype(bool)


def _resampled(
    truth: np.ndarray,
    known: np.ndarray,
    scores: Sequence[np.ndarray],
    codes: np.ndarray,
    averages: Mapping[str, Sequence[int]],
    resampling: Resampling,
    *,
    counts: Counts | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The measures of each of `scores`, all on the same resamples.

    Returns:
        On all images, of shape (n_scores, n_measures, n_rows), and on the resamples, of shape
        (n_scores, n_measures, resamples, n_rows); the rows are the labels, then the averages, the
        measures `MEASURES` and, of one score with `counts`, `AT_THRESHOLD`.
    """
    _check_averages(averages, truth.shape[1])
    number = int(codes.max())
    rankings = [
        [
            rank_images(flags[seen], column[seen], codes[seen], number)
            for flags, seen, column in zip(truth.T, known.T, score.T, strict=True)
        ]
        for score in scores
    ]
    block = max(1, _BLOCK_BYTES // (8 * _ARRAYS * len(codes)))
    generator, drawn = np.random.default_rng(resampling.seed), []
    for start in range(0, resampling.resamples, block):
        size = min(block, resampling.resamples - start)
        # one draw at a time, so that no number depends on the size of a block
        draws = [generator.integers(1, number + 1, size=number) for _ in range(size)]
        counts_drawn = [np.bincount(draw, minlength=number + 1) for draw in draws]
        weights = np.stack(counts_drawn, axis=1).astype(float)
        drawn.append(_measures(rankings, counts, weights))
        if resampling.progress is not None:
            resampling.progress(size)
    once = np.append(0.0, np.ones(number))[:, None]
    point = _measures(rankings, counts, once)[:, :, 0]
    spread = np.concatenate(drawn, axis=2) if number > 1 else np.full_like(drawn[0], np.nan)
    instead = point[:, :, None].copy()
    instead[:, : len(MEASURES)] = np.nan
    return _with_averages(point, averages), _with_averages(spread, averages, instead)


def _measures(
    rankings: Sequence[Sequence[Ranking]], counts: Counts | None, weights: np.ndarray
) -> np.ndarray:
    """Of shape (n_scores, n_measures, block, n_labels), for weights (1 + patients, block)."""
    ranked = np.array(
        [
            np.stack([auroc_and_ap(ranking, weights) for ranking in labels], axis=-1)
            for labels in rankings
        ]
    )
    if counts is None:
        return ranked
    return np.concatenate([ranked, counts.measures(weights)[None]], axis=1)


def _with_averages(
    values: np.ndarray,
    averages: Mapping[str, Sequence[int]],
    instead: np.ndarray | float = np.nan,
) -> np.ndarray:
    """Append to labels (…, n_labels) each average over those of its labels that are defined.

    Where some of them are, the others count with their value in `instead`, if they have one there.
    """
    filled = np.where(np.isnan(values), instead, values)
    means = []
    for columns in averages.values():
        part = filled[..., list(columns)]
        count = (~np.isnan(part)).sum(axis=-1)
        some = ~np.isnan(values[..., list(columns)]).all(axis=-1)
        means.append(np.where(some, np.nansum(part, -1) / np.maximum(count, 1), np.nan))
    return np.concatenate([values, *(mean[..., None] for mean in means)], axis=-1)


def _percentiles(drawn: np.ndarray, level: float) -> np.ndarray:
    """Lower and upper bounds (2, n_columns) of (resamples, n_columns), NaN left out."""
    shares = ((1 - level) / 2, (1 + level) / 2)
    defined = [column[~np.isnan(column)] for column in drawn.T]
    return np.array([np.quantile(d, shares) if len(d) else (np.nan, np.nan) for d in defined]).T


def _two_sided_p(difference: np.ndarray) -> np.ndarray:
    count = (~np.isnan(difference)).sum(axis=0)
    fewest = np.minimum((difference <= 0).sum(axis=0), (difference >= 0).sum(axis=0))
    return np.where(count, np.minimum(1.0, 2 * (1 + fewest) / (count + 1)), np.nan)


def _patient_codes(patients: Iterable[Hashable], number: int) -> np.ndarray:
    """1… by the sorted names, so that the draws do not depend on the order of the images."""
    names = list(patients)
    if len(names) != number:
        raise DataError(f"Give one patient per image. Received: {len(names)} for {number}.")
    try:
        codes = pd.factorize(pd.Series(names), sort=True)[0] + 1
    except TypeError as error:
        raise DataError(f"Patients must be numbers or strings. Received: {error}.") from error
    if missing := int((codes < 1).sum()):
        raise DataError(f"Name the patient of each image. Received: None or NaN for {missing}.")
    return codes


def _check_averages(averages: Mapping[str, Sequence[int]], number: int) -> None:
    for name, columns in averages.items():
        if not set(columns) <= set(range(number)):
            allowed = f"over columns 0 to {number - 1}. Received: {list(columns)}."
            raise DataError(f'The average "{name}" must be {allowed}')
