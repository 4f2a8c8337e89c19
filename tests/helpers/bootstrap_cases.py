"""Random cases for the bootstrap, and the slow references it is held against."""

import numpy as np
import pandas as pd
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from cxr_keras.metrics import bootstrap


# the arithmetic, on toys too small for bounds that mean anything
def intervals(*arrays, labels, averages, predicted=None, **resampling):
    options = bootstrap.Resampling(min_patients=1, **resampling)
    named = {"labels": labels, "averages": averages, "predicted": predicted}
    return bootstrap.intervals(*arrays, **named, resampling=options)


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


def scikit_learn(truth, score, weight=None):
    """Both measures of one label, NaN where it has one class."""
    kept = np.ones(len(truth), bool) if weight is None else weight > 0
    if len(set(truth[kept])) < 2:
        return np.nan, np.nan
    return (
        roc_auc_score(truth, score, sample_weight=weight),
        average_precision_score(truth, score, sample_weight=weight),
    )


def at_a_half(truth, score):
    """Precision, recall and F1 of one label, NaN where there is nothing to divide by."""
    predicted = score >= 0.5
    return (
        precision_score(truth, predicted, zero_division=np.nan),
        recall_score(truth, predicted, zero_division=np.nan),
        f1_score(truth, predicted, zero_division=np.nan),
    )


def slow_bootstrap(
    truth, probability, patients, resamples, seed, averages=AVERAGES, measures=scikit_learn
):
    """The measures (n, 1 + resamples, columns), first of all images; images truly repeated.

    An average is over the labels that a resample defines; of precision, recall and F1 the others
    count with their value on all images.
    """
    names = sorted(set(patients))
    rng = np.random.default_rng(seed)
    chosen = [np.arange(len(truth))]
    for _ in range(resamples):
        drawn = rng.integers(len(names), size=len(names))
        chosen.append(np.concatenate([np.flatnonzero(patients == names[d]) for d in drawn]))
    rows = []
    for images in chosen:
        columns = zip(truth[images].T, probability[images].T, strict=True)
        found = np.array([measures(*column) for column in columns])
        first = rows[0][: len(found)] if rows else found
        kept = pd.DataFrame(found)
        at_threshold = found.shape[1] == len(bootstrap.AT_THRESHOLD)
        kept = kept.fillna(pd.DataFrame(first)) if at_threshold else kept
        means = [kept.iloc[columns].mean() for columns in averages.values()]  # skips NaN
        rows.append(np.vstack([found, *means]))
    return np.moveaxis(np.array(rows), 2, 0)
