"""Random cases in which the truth of some labels is unknown."""

import numpy as np

LABELS = ("whole", "part", "half", "nowhere", "single")
NOWHERE = LABELS.index("nowhere")


def random_case(seed, n=90, patients=30):
    """Truth with NaN, (n, 5), probabilities with ties, and the patient of each image.

    One label is known of every image, one of none; one is known of one class only. Of some images,
    and of the first and the last patient, no label is known but the first.
    """
    rng = np.random.default_rng(seed)
    shape = (n, len(LABELS))
    truth = (rng.random(shape) < rng.uniform(0.2, 0.6, len(LABELS))).astype(float)
    probability = np.round(0.7 * rng.random(shape) + 0.3 * truth * rng.random(shape), 1)
    who = rng.integers(patients, size=n)
    truth[rng.random(shape) < [0, 0.2, 0.5, 1, 0.3]] = np.nan
    truth[truth[:, 4] == 1, 4] = np.nan
    silent = np.isin(who, (who.min(), who.max())) | (rng.random(n) < 0.1)
    truth[silent, 1:] = np.nan
    return truth, probability, who


def without_unknown(truth, *columns):
    """The known entries of one label's truth, as int, and the same places of the other columns."""
    known = ~np.isnan(truth)
    return truth[known].astype(int), *(column[known] for column in columns)
