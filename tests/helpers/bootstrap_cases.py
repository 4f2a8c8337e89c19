"""Random cases for the bootstrap."""

import numpy as np

from cxr_keras.metrics import bootstrap


# the arithmetic, on toys too small for bounds that mean anything
def intervals(*arrays, labels, averages, **resampling):
    options = bootstrap.Resampling(min_patients=1, **resampling)
    return bootstrap.intervals(*arrays, labels=labels, averages=averages, resampling=options)


def paired_differences(*arrays, labels, averages, **resampling):
    options = bootstrap.Resampling(min_patients=1, **resampling)
    return bootstrap.paired_differences(
        *arrays, labels=labels, averages=averages, resampling=options
    )


LABELS = ("a", "b", "c", "d")
AVERAGES = {"first three": [0, 1, 2], "all": [0, 1, 2, 3]}
NAMED = {"labels": LABELS, "averages": AVERAGES}


def random_case(seed, n=60, k=4, patients=20, decimals=1):
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, k)) < rng.uniform(0.1, 0.6, k)).astype(int)
    probability = np.round(0.7 * rng.random((n, k)) + 0.3 * truth * rng.random((n, k)), decimals)
    return truth, probability, rng.integers(patients, size=n)
