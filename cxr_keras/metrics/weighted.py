"""Measures of images whose patients carry weights: what a bootstrap computes again and again.

A weight says how often a patient was drawn. Patients are codes from 1; code 0 is nobody.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Ranking(NamedTuple):
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


def rank_images(truth: np.ndarray, score: np.ndarray, codes: np.ndarray) -> Ranking:
    """Sort one label's images: truth as bool, score, and the code of the patient, each (n,)."""
    order = np.argsort(-score)
    score, truth, codes = score[order], truth[order], codes[order]
    changes = np.flatnonzero(score[1:] != score[:-1]) + 1
    starts, ends = np.append(0, changes), np.append(changes, len(score))
    hits = np.append(0, np.cumsum(truth))
    kept = hits[ends] > hits[starts]
    starts, ends = starts[kept], ends[kept]
    everyone, positives = np.append(0, codes), np.append(0, codes[truth])
    return Ranking(everyone, positives, starts, ends, hits[starts], hits[ends])


def auroc_and_ap(ranking: Ranking, weights: np.ndarray) -> np.ndarray:
    """AUROC and average precision, (2, block), for weights (block, 1 + patients).

    NaN where the weights leave one class.
    """
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


class Counts(NamedTuple):
    """Images of each patient, (1 + patients, n_labels); row 0 is nobody."""

    hits: np.ndarray  # true and predicted positive
    predicted: np.ndarray
    true: np.ndarray

    def measures(self, weights: np.ndarray) -> np.ndarray:
        """Precision, recall and F1, (3, block, n_labels), for weights (block, 1 + patients)."""
        hits, predicted, true = (weights @ part for part in self)
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
