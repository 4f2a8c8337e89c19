"""How sure the measures are: bootstrap intervals of AUROC and average precision.

What is drawn is patients, never images: the images of one patient resemble each other, and an
interval that took them for independent would be too narrow. A resample draws as many patients as
there are, with replacement, and takes every image of each as often as its patient was drawn
(Field & Welsh, "Bootstrapping clustered data", JRSS B 69, 2007). The interval lies between
percentiles of the resamples (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993,
chapter 13).

A resample is a vector of whole-number weights: each label is sorted once, and each resample costs
one pass over the sorted images, in sums that are exact until they are divided.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cxr_keras.errors import DataError
from cxr_keras.metrics.options import RESAMPLES
from cxr_keras.metrics.per_label import checked

MEASURES = ("auroc", "ap")
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
        min_patients: of either class, for a label to have bounds.
        progress: called after each block with the number of resamples in it.

    Raises:
        DataError: `resamples` is below 1, `seed` below 0, or `level` not between 0 and 1.
    """

    resamples: int = RESAMPLES
    seed: int = 0
    level: float = 0.95
    min_patients: int = 5
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
    resampling: Resampling = DEFAULT,
) -> pd.DataFrame:
    """AUROC and average precision of each label, with percentile intervals over patients.

    Args:
        truth: array-like of shape (n_samples, n_labels), 0 or 1.
        probability: array-like of the same shape, each in 0…1.
        patients: the patient of each image, of shape (n_samples,).
        labels: names of the columns.
        averages: name of an average row → positions of the columns it is the mean of.
        resampling: how to draw.

    Returns:
        Columns label, auroc, auroc_low, auroc_high, ap, ap_low, ap_high: one row per label, then
        one per average. A label with one class is NaN, and so are the bounds of a label with fewer
        than `min_patients` of either class: from so few the percentiles come out far too close.
        A resample in which a label has one class is left out for this label; its averages are
        over the labels it defines.

    Raises:
        DataError: shapes differ, a value is out of range, NaN or infinite, a patient is missing.
    """
    hits, score = checked(truth, probability, len(labels))
    codes = _patient_codes(patients, len(hits))
    point, drawn = _resampled(hits, [score], codes, averages, resampling)
    table = pd.DataFrame({"label": [*labels, *averages]})
    for i, measure in enumerate(MEASURES):
        low, high = _percentiles(drawn[0, i], resampling.level)
        table[measure], table[f"{measure}_low"], table[f"{measure}_high"] = point[0, i], low, high
    return _without_scarce(table, hits, codes, resampling.min_patients)


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
    hits, score_a = checked(truth, probability_a, len(labels))
    _, score_b = checked(truth, probability_b, len(labels))
    codes = _patient_codes(patients, len(hits))
    (a, b), (drawn_a, drawn_b) = _resampled(hits, [score_a, score_b], codes, averages, resampling)
    differences = drawn_b - drawn_a
    table = pd.DataFrame({"label": [*labels, *averages]})
    for i, measure in enumerate(MEASURES):
        low, high = _percentiles(differences[i], resampling.level)
        table[f"{measure}_a"], table[f"{measure}_b"] = a[i], b[i]
        table[f"{measure}_difference"] = b[i] - a[i]
        table[f"{measure}_low"], table[f"{measure}_high"] = low, high
        table[f"{measure}_p"] = _two_sided_p(differences[i])
    return _without_scarce(table, hits, codes, resampling.min_patients)


def _without_scarce(
    table: pd.DataFrame, truth: np.ndarray, codes: np.ndarray, fewest: int
) -> pd.DataFrame:
    """Bounds and p of labels with fewer patients than `fewest` of either class become NaN."""
    for i, column in enumerate(truth.T):
        if min(len(np.unique(codes[column])), len(np.unique(codes[~column]))) < fewest:
            doubtful = [name for name in table if name.endswith(("_low", "_high", "_p"))]
            table.loc[i, doubtful] = np.nan
    return table


class _Ranking(NamedTuple):
    """One label's images, best score first, cut where the score changes.

    Patients are codes from 1. Both lists of them begin with 0, nobody, so that position k of a
    running sum is the weight of the k best. Only those tie groups that hold a positive are kept.
    """

    patients: np.ndarray  # (1 + n_samples,)
    positives: np.ndarray  # (1 + n_positives,), of the positive images alone
    starts: np.ndarray  # (n_groups,), images above the group
    ends: np.ndarray  # (n_groups,), images above it or in it
    hit_starts: np.ndarray  # (n_groups,), the same of positives
    hit_ends: np.ndarray


def _ranking(truth: np.ndarray, score: np.ndarray, codes: np.ndarray) -> _Ranking:
    order = np.argsort(-score)
    score, truth, codes = score[order], truth[order], codes[order]
    changes = np.flatnonzero(score[1:] != score[:-1]) + 1
    starts, ends = np.append(0, changes), np.append(changes, len(score))
    hits = np.append(0, np.cumsum(truth))
    kept = hits[ends] > hits[starts]
    starts, ends = starts[kept], ends[kept]
    everyone, positives = np.append(0, codes), np.append(0, codes[truth])
    return _Ranking(everyone, positives, starts, ends, hits[starts], hits[ends])


def _resampled(
    truth: np.ndarray,
    scores: Sequence[np.ndarray],
    codes: np.ndarray,
    averages: Mapping[str, Sequence[int]],
    resampling: Resampling,
) -> tuple[np.ndarray, np.ndarray]:
    """Both measures of each of `scores`, all on the same resamples.

    Returns:
        On all images, of shape (n_scores, 2, n_rows), and on the resamples, of shape
        (n_scores, 2, resamples, n_rows); the rows are the labels, then the averages.
    """
    _check_averages(averages, truth.shape[1])
    rankings = [
        [_ranking(*column, codes) for column in zip(truth.T, score.T, strict=True)]
        for score in scores
    ]
    block, number = max(1, _BLOCK_BYTES // (8 * _ARRAYS * len(codes))), int(codes.max())
    generator, drawn = np.random.default_rng(resampling.seed), []
    for start in range(0, resampling.resamples, block):
        size = min(block, resampling.resamples - start)
        # one draw at a time, so that no number depends on the size of a block
        draws = [generator.integers(1, number + 1, size=number) for _ in range(size)]
        weights = np.array([np.bincount(draw, minlength=number + 1) for draw in draws], float)
        drawn.append(_measures(rankings, weights))
        if resampling.progress is not None:
            resampling.progress(size)
    once = np.append(0.0, np.ones(number))[None]
    point = _measures(rankings, once)[:, :, 0]
    spread = np.concatenate(drawn, axis=2) if number > 1 else np.full_like(drawn[0], np.nan)
    return _with_averages(point, averages), _with_averages(spread, averages)


def _measures(rankings: Sequence[Sequence[_Ranking]], weights: np.ndarray) -> np.ndarray:
    """Of shape (n_scores, 2, block, n_labels), for weights of shape (block, 1 + patients)."""
    return np.array(
        [
            np.stack([_auroc_and_ap(ranking, weights) for ranking in labels], axis=-1)
            for labels in rankings
        ]
    )


def _auroc_and_ap(ranking: _Ranking, weights: np.ndarray) -> np.ndarray:
    """Of shape (2, block); NaN where the weights leave one class."""
    images = np.cumsum(weights.take(ranking.patients, axis=1), axis=1)
    hits = np.cumsum(weights.take(ranking.positives, axis=1), axis=1)
    positives, negatives = hits[:, -1], images[:, -1] - hits[:, -1]
    predicted, before = images.take(ranking.ends, axis=1), images.take(ranking.starts, axis=1)
    found, found_before = hits.take(ranking.hit_ends, 1), hits.take(ranking.hit_starts, 1)
    gained = found - found_before
    # a positive wins against the negatives below it, and half against those it is tied with
    false_alarms_twice = (predicted - found) + (before - found_before)
    wins_twice = (gained * (2 * negatives[:, None] - false_alarms_twice)).sum(axis=1)
    # one threshold per tie group, a step at each: scikit-learn's average_precision_score
    precision = np.divide(found, predicted, out=np.zeros_like(found), where=predicted > 0)
    steps = (gained * precision).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        both = np.stack([wins_twice / (2 * positives * negatives), steps / positives])
    return np.where((positives > 0) & (negatives > 0), both, np.nan)


def _with_averages(values: np.ndarray, averages: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Append to labels (…, n_labels) each average over those of its labels that are defined."""
    means = []
    for columns in averages.values():
        part = values[..., list(columns)]
        count = (~np.isnan(part)).sum(axis=-1)
        means.append(np.where(count, np.nansum(part, -1) / np.maximum(count, 1), np.nan))
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
