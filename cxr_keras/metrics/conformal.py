"""Label sets with a guarantee: how many findings they hold, whatever the network.

Conformal risk control (Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR
2024, https://arxiv.org/abs/2208.02814, theorem 1) with the share of a patient's findings that a set
misses as the risk: the images of one patient are not independent, patients are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def guaranteed_threshold(
    truth: ArrayLike, probability: ArrayLike, patients: ArrayLike, *, level: float
) -> tuple[float, int]:
    """The highest threshold whose sets hold a share of findings of new patients like these.

    For a new patient with findings, drawn like those here, the expected share of them that the sets
    of his or her images hold is at least `level`. The set of an image is every label whose
    probability is at least the threshold.

    Args:
        truth: (n, n_labels) of 0, 1 and NaN where it is not known; findings alone, without a label
            that means none.
        probability: (n, n_labels) in 0…1.
        patients: (n,), whose each image is.
        level: such as 0.9, above 0 and below 1.

    Returns:
        The threshold, 0 where no higher one is safe (so few patients that each set must hold every
        label), and how many patients with findings there were.
    """
    truth, probability = np.asarray(truth, "float64"), np.asarray(probability, "float64")
    images, labels = np.nonzero(truth == 1)
    _, whose = np.unique(np.asarray(patients)[images], return_inverse=True)
    count = int(whose.max()) + 1 if len(whose) else 0
    shares = 1 / np.bincount(whose)[whose] if count else np.zeros(0)  # of a finding in its patient
    found = probability[images, labels]
    order = np.argsort(found, kind="stable")
    found, missed = found[order], np.cumsum(shares[order])
    # above each probability all findings up to it, its equals too, are missed
    last = np.append(found[1:] > found[:-1], True) if count else np.zeros(0, bool)
    bound = 1 - level + 1e-12  # sums of shares such as 1/3 are rounded
    safe = (missed + 1) / (count + 1) <= bound
    threshold = 0.0
    if 1 / (count + 1) <= bound:
        threshold = float(found[0])
        for place in np.flatnonzero(last):
            if not safe[place] or place + 1 == len(found):
                break
            threshold = float(found[place + 1])
    return threshold, count


def held_share(
    truth: ArrayLike, probability: ArrayLike, patients: ArrayLike, *, threshold: float
) -> tuple[float, float]:
    """The mean over patients of the share of findings that sets hold, and the mean size of a set.

    Args:
        truth: as in `guaranteed_threshold`.
        probability: as there.
        patients: as there.
        threshold: of the sets.

    Returns:
        Both NaN where there are no findings, or no images.
    """
    truth, probability = np.asarray(truth, "float64"), np.asarray(probability, "float64")
    sets = probability >= threshold
    size = float(sets.sum(axis=1).mean()) if len(sets) else float("nan")
    images, labels = np.nonzero(truth == 1)
    if not len(images):
        return float("nan"), size
    _, whose = np.unique(np.asarray(patients)[images], return_inverse=True)
    held = np.bincount(whose, weights=sets[images, labels]) / np.bincount(whose)
    return float(held.mean()), size
