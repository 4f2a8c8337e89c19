"""Validation arrays in, the threshold of each label out. Pure numpy.

One threshold of 0.5 for 15 labels never calls the rare ones. These are chosen a label at a time,
on data that the network was not trained on and that the final table does not use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from cxr_keras.errors import DataError
from cxr_keras.metrics.per_label import checked

FALLBACK = 0.5


def choose_thresholds(
    truth: ArrayLike,
    probability: ArrayLike,
    *,
    labels: Sequence[str],
    sensitivity: float | None = None,
    min_positives: int = 5,
) -> tuple[tuple[float, ...], list[str]]:
    """Choose the threshold of each label; a label is called at or above it.

    Every distinct score of a label is tried. The threshold lies midway between the chosen score
    and the next lower one (0 below the lowest), so that rounding a score moves no image.

    The best F1 of a label whose scores tell nothing is to call every image: Lipton et al.,
    "Thresholding Classifiers to Maximize F1 Score", 2014, https://arxiv.org/abs/1402.1892.

    Args:
        truth: array-like of shape (n_samples, n_labels), 0 or 1.
        probability: array-like of the same shape, each in 0…1.
        labels: names of the columns.
        sensitivity: None for the highest F1, of equals the highest threshold; a number in (0, 1]
            for the highest threshold that finds at least this share of the positives.
        min_positives: a label with fewer, or without a negative, gets 0.5.

    Returns:
        A threshold a label, and notices: none, or one sentence naming the labels that got 0.5.

    Raises:
        DataError: `sensitivity` is not in (0, 1], or the arrays are none that can be measured.
    """
    if sensitivity is not None and not 0 < sensitivity <= 1:
        raise DataError(f"Sensitivity must be above 0 and at most 1. Received: {sensitivity}.")
    truth, probability = checked(truth, probability, len(labels))
    positives = truth.sum(axis=0)
    scarce = (positives < max(min_positives, 1)) | (positives == len(truth))
    thresholds = tuple(
        FALLBACK if few else _best(truth[:, i], probability[:, i], sensitivity)
        for i, few in enumerate(scarce)
    )
    if not scarce.any():
        return thresholds, []
    named = ", ".join(f"{labels[i]} {positives[i]:,}" for i, few in enumerate(scarce) if few)
    return thresholds, [
        f"Labels with fewer than {min_positives} positives or no negative keep the threshold "
        f"{FALLBACK}; their positives: {named}."
    ]


def _best(truth: np.ndarray, score: np.ndarray, sensitivity: float | None) -> float:
    """The threshold of one label, from (n,) flags of both classes and (n,) scores."""
    order = np.argsort(-score)
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))  # image of each score
    scores, hits, calls = ranked[last], np.cumsum(truth[order])[last], last + 1
    positives = hits[-1]
    # argmax takes the first of equals: the highest threshold, as the scores descend
    if sensitivity is None:
        best = int(np.argmax(2 * hits / (positives + calls)))
    else:
        best = int(np.argmax(hits / positives >= sensitivity))
    below = scores[best + 1] if best + 1 < len(scores) else 0.0
    middle = (scores[best] + below) / 2
    # between neighbouring floats there is no middle
    return float(middle if middle > below else scores[best])
