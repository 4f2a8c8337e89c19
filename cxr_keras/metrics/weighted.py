"""Measures of images whose patients carry weights: what a bootstrap computes again and again.

A weight says how often a patient was drawn. Patients are codes from 1; code 0 is nobody. Weights
have the shape (1 + patients, block), a column for each resample. Images enter as sparse matrices
of how many of them each patient has, so that a product with the weights is a weighted count.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array


class Ranking(NamedTuple):
    """One label's images by patient, best score first, cut where the score changes.

    Only those tie groups are told apart that hold a positive.
    """

    images: csr_array  # (2 n_groups + 1, 1 + patients): above a group, in it, …, below the last
    positives: csr_array  # (n_groups, 1 + patients): the positives in each group


def rank_images(
    truth: np.ndarray, score: np.ndarray, codes: np.ndarray, patients: int | None = None
) -> Ranking:
    """Sort one label's images: truth as bool, score, and the code of the patient, each (n,).

    `patients` is how many there are, where some of them may have none of these images.
    """
    order = np.argsort(-score)
    score, truth, codes = score[order], truth[order], codes[order]
    changes = np.flatnonzero(score[1:] != score[:-1]) + 1
    starts, ends = np.append(0, changes), np.append(changes, len(score))
    hits = np.append(0, np.cumsum(truth))
    kept = hits[ends] > hits[starts]
    bounds = np.stack([starts[kept], ends[kept]], axis=1).ravel()
    place = np.searchsorted(bounds, np.arange(len(score)), side="right")
    number = 1 + (int(codes.max()) if patients is None else patients)
    return Ranking(
        _count(place, codes, (len(bounds) + 1, number)),
        _count(place[truth] // 2, codes[truth], (len(bounds) // 2, number)),
    )


def _count(rows: np.ndarray, codes: np.ndarray, shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(rows)), (rows, codes)), shape=shape)


def auroc_and_ap(ranking: Ranking, weights: np.ndarray) -> np.ndarray:
    """AUROC and average precision, (2, block), for weights (1 + patients, block).

    NaN where the weights leave one class.
    """
    gained = ranking.positives @ weights
    if not len(gained):
        return np.full((2, weights.shape[1]), np.nan)
    images, found = np.cumsum(ranking.images @ weights, axis=0), np.cumsum(gained, axis=0)
    before, predicted = images[:-1:2], images[1::2]
    positives, negatives = found[-1], images[-1] - found[-1]
    # a positive wins against the negatives below it, and half against those it is tied with
    false_alarms_twice = (predicted - found) + (before - found + gained)
    wins_twice = (gained * (2 * negatives - false_alarms_twice)).sum(axis=0)
    # one threshold per tie group, a step at each: scikit-learn's average_precision_score
    precision = np.divide(found, predicted, out=np.zeros_like(found), where=predicted > 0)
    # a running sum adds in one order, however many columns there are
    steps = np.cumsum(gained * precision, axis=0)[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        both = np.stack([wins_twice / (2 * positives * negatives), steps / positives])
    return np.where((positives > 0) & (negatives > 0), both, np.nan)


def auroc_and_ap_once(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    """AUROC and average precision, (2,), of one label's images, each of which counts once.

    Truth as bool and score, each (n,); NaN where there are not both classes.
    """
    ranking = rank_images(truth, score, np.ones(len(truth), dtype=int), patients=1)
    return auroc_and_ap(ranking, np.array([[0.0], [1.0]]))[:, 0]


class Counts(NamedTuple):
    """Images of each patient, (1 + patients, n_labels); row 0 is nobody."""

    hits: np.ndarray  # true and predicted positive
    predicted: np.ndarray
    true: np.ndarray

    def measures(self, weights: np.ndarray) -> np.ndarray:
        """Precision, recall and F1, (3, block, n_labels), for weights (1 + patients, block)."""
        hits, predicted, true = ((part.T @ weights).T for part in self)
        with np.errstate(invalid="ignore"):
            return np.stack([hits / predicted, hits / true, 2 * hits / (predicted + true)])


def count_patients(truth: np.ndarray, predicted: np.ndarray, codes: np.ndarray) -> Counts:
    """Count the images of each patient, from flags (n_samples, n_labels) and codes (n_samples,)."""
    counted = []
    for flags in (truth & predicted, predicted, truth):
        counts = np.zeros((int(codes.max()) + 1, truth.shape[1]))
        np.add.at(counts, codes, flags)
        counted.append(counts)
    return Counts(*counted)
