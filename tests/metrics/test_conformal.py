"""Label sets with a guarantee: against a search over every threshold, and on new patients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_keras.metrics.conformal import guaranteed_threshold, held_share


def missed(truth, probability, patients, threshold):
    """The missed share of findings of each patient that has any, one after the other."""
    shares = []
    for patient in np.unique(patients):
        here = patients == patient
        found = [
            probability[i, j] >= threshold
            for i in np.flatnonzero(here)
            for j in range(truth.shape[1])
            if truth[i, j] == 1
        ]
        if found:
            shares.append(1 - np.mean(found))
    return np.array(shares)


@st.composite
def cases(draw):
    images, labels = draw(st.integers(1, 25)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    truth = rng.choice([0.0, 1.0, np.nan], (images, labels), p=[0.5, 0.4, 0.1])
    probability = rng.integers(0, draw(st.sampled_from([3, 1000])), (images, labels)) / 1000
    return truth, probability, rng.integers(0, 8, images), draw(st.floats(0.05, 0.95))


def test_a_bound_that_is_met_exactly_is_met_in_spite_of_rounding():
    """14 of 15 findings, a fifth of a patient each, are missed: (2.8 + 1) / (3 + 1) is 0.95."""
    probability = np.arange(1, 16)[:, None] / 100
    patients = np.repeat([0, 1, 2], 5)
    threshold, _ = guaranteed_threshold(np.ones((15, 1)), probability, patients, level=0.05)
    assert threshold == 0.15


def test_nine_patients_by_hand():
    """One of nine may be missed: (1 + 1) / (9 + 1) is the 0.2 that a level of 0.8 allows."""
    probability = [[0.1 * i, 0.99] for i in range(1, 10)]
    truth = [[1, 0]] * 9
    threshold, count = guaranteed_threshold(truth, probability, list("abcdefghi"), level=0.8)
    assert (threshold, count) == (pytest.approx(0.2), 9)


def test_held_shares_by_hand():
    truth = [[1, 1], [1, 0], [0, 1], [float("nan"), 0]]
    probability = [[0.5, 0.4], [0.7, 0.5], [0.8, 0.1], [0.9, 0.2]]
    held, size = held_share(truth, probability, ["ann", "ann", "bob", "cy"], threshold=0.5)
    assert held == pytest.approx((2 / 3 + 0) / 2)  # of Ann's findings two of three, of Bob's none
    assert size == (1 + 2 + 1 + 1) / 4


def test_no_images_at_all():
    nothing = np.zeros((0, 2))
    assert guaranteed_threshold(nothing, nothing, [], level=0.9) == (0.0, 0)
    assert np.isnan(held_share(nothing, nothing, [], threshold=0.5)).all()


@given(cases())
def test_the_threshold_is_the_highest_that_the_theorem_allows(case):
    truth, probability, patients, level = case
    threshold, count = guaranteed_threshold(truth, probability, patients, level=level)
    safe = [0.0]
    for candidate in np.unique(probability[truth == 1]):
        shares = missed(truth, probability, patients, candidate)
        if (shares.sum() + 1) / (len(shares) + 1) <= 1 - level + 1e-12:
            safe.append(candidate)
    assert count == len(missed(truth, probability, patients, 0))
    assert threshold == max(safe)


def people(count, seed):
    """Images of patients who are each ill in their own way, and how probable a network finds it."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(count), rng.integers(1, 6, count))
    severity = rng.normal(0, 1.2, (count, 5))[patients]
    logits = severity - 1 + rng.normal(0, 0.7, severity.shape)
    truth = (rng.random(severity.shape) < 1 / (1 + np.exp(1.5 - severity))).astype(float)
    return truth, 1 / (1 + np.exp(-logits)), patients


@pytest.mark.parametrize("level", [0.7, 0.9, 0.95])
def test_new_patients_have_at_least_the_share_on_average(level):
    held = []
    for seed in range(120):
        truth, probability, patients = people(160, seed)
        first = patients < 80  # a split by patient
        threshold, _ = guaranteed_threshold(
            truth[first], probability[first], patients[first], level=level
        )
        rest = (truth[~first], probability[~first], patients[~first])
        held.append(held_share(*rest, threshold=threshold)[0])
    assert np.mean(held) > level - 2 * np.std(held) / len(held) ** 0.5
    assert np.mean(held) < level + 0.05  # and no more than it must


def test_too_few_patients_hold_every_label():
    truth, probability, patients = people(5, 0)
    threshold, count = guaranteed_threshold(truth, probability, patients, level=0.9)
    assert count < 9
    assert threshold == 0
    assert held_share(truth, probability, patients, threshold=0) == (1.0, 5.0)


def test_no_findings_at_all():
    nothing = np.zeros((4, 2))
    assert guaranteed_threshold(nothing, nothing + 0.5, np.arange(4), level=0.9) == (0.0, 0)
    held, size = held_share(nothing, nothing + 0.5, np.arange(4), threshold=0.6)
    assert np.isnan(held)
    assert size == 0
