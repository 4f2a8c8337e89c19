"""Validation arrays in, the threshold of each label out. Pure numpy.

With one threshold of 0.5 for all labels, rare ones are never predicted. These are chosen for each
label alone, on data that the network was not trained on and that the final table does not use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from cxr_keras.errors import DataError
from cxr_keras.metrics.options import MIN_POSITIVES
from cxr_keras.metrics.per_label import checked

FALLBACK = 0.5


def choose_thresholds(
    truth: ArrayLike,
    probability: ArrayLike,
    *,
    labels: Sequence[str],
    sensitivity: float | None = None,
    prevalence: ArrayLike | None = None,
    min_positives: int = MIN_POSITIVES,
) -> tuple[tuple[float, ...], list[str]]:
    """Choose the threshold of each label, at or above which it is predicted positive.

    Every distinct score of a label is tried. The threshold lies midway between the chosen score
    and the next lower one (0 below the lowest), so that rounding a score moves no image.

    Where a label's scores tell nothing, the highest F1 is that of predicting it for every image:
    Lipton et al., "Thresholding Classifiers to Maximize F1 Score", 2014,
    https://arxiv.org/abs/1402.1892.

    Args:
        truth: array-like of shape (n_samples, n_labels), 1, 0 or NaN (unknown): each label's
            threshold is chosen on the images of which the label is known.
        probability: array-like of the same shape, each in 0…1.
        labels: names of the columns.
        sensitivity: None for the highest F1 (if several thresholds reach it, the highest of
            them); a number in (0, 1] for the highest threshold that finds at least this share of
            the positives.
        prevalence: array-like of shape (n_labels,): choose as if each label had this share of the
            images, its positives and negatives weighted so; None, or NaN for a label, takes these
            images as they are. The F1 of a threshold depends on it, a sensitivity does not.
        min_positives: a label with fewer, or without a negative, gets 0.5.

    Returns:
        One threshold per label, and notices: none, or one sentence naming the labels that got 0.5.

    Raises:
        DataError: `sensitivity` is not in (0, 1], shapes differ, or a value (of `prevalence`,
            too) is out of range or infinite, or a probability NaN.
    """
    if sensitivity is not None and not 0 < sensitivity <= 1:
        raise DataError(f"Sensitivity must be above 0 and at most 1. Received: {sensitivity}.")
    truth, known, probability = checked(truth, probability, len(labels))
    positives, images = truth.sum(axis=0), known.sum(axis=0)
    scarce = (positives < max(min_positives, 1)) | (positives == images)
    weights = _negative_weights(positives, images, prevalence)
    thresholds = tuple(
        FALLBACK if few else _best(truth[seen, i], probability[seen, i], sensitivity, weights[i])
        for i, (few, seen) in enumerate(zip(scarce, known.T, strict=True))
    )
    if not scarce.any():
        return thresholds, []
    named = ", ".join(f"{labels[i]} {positives[i]:,}" for i, few in enumerate(scarce) if few)
    return thresholds, [
        f"Labels with fewer than {min_positives} positives or no negative keep the threshold "
        f"{FALLBACK}; their positives: {named}."
    ]


def _negative_weights(
    positives: np.ndarray, images: np.ndarray, prevalence: ArrayLike | None
) -> np.ndarray:
    """What a negative weighs where a positive weighs 1, to give that prevalence.

    The positives of each label, the images of which it is known and the weights are (n_labels,).
    """
    number = len(positives)
    if prevalence is None:
        return np.ones(number)
    shares = np.asarray(prevalence, dtype=float)
    kept = np.isnan(shares)
    if shares.shape != (number,) or not (kept | ((shares > 0) & (shares < 1))).all():
        raise DataError(
            f"Give one prevalence per label ({number}), each above 0 and below 1. "
            f"Received: {prevalence}."
        )
    odds = positives / np.maximum(images - positives, 1)
    return np.where(kept, 1.0, odds * (1 - shares) / shares)


def _best(
    truth: np.ndarray, score: np.ndarray, sensitivity: float | None, negative_weight: float
) -> float:
    """The threshold of one label, from (n,) flags of both classes and (n,) scores."""
    order = np.argsort(-score)
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))  # last image of each score
    scores, hits, predicted = ranked[last], np.cumsum(truth[order])[last], last + 1
    positives = hits[-1]
    # the scores descend, and argmax takes the first of equal values: the highest threshold
    if sensitivity is None:
        predicted = hits + negative_weight * (predicted - hits)
        best = int(np.argmax(2 * hits / (positives + predicted)))
    else:
        best = int(np.argmax(hits / positives >= sensitivity))
    below = scores[best + 1] if best + 1 < len(scores) else 0.0
    middle = (scores[best] + below) / 2
    # between neighbouring floats there is no middle
    return float(middle if middle > below else scores[best])
