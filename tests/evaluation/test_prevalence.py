"""Which prevalence a label moves from, and what a simulated move gives."""

import numpy as np
import pytest
from scipy.special import expit

from cxr_keras.errors import DataError
from cxr_keras.evaluation.prevalence import no_move, plan_move
from cxr_keras.metrics.calibration import (
    expected_calibration_error,
    prevalence_shift,
    scale_logits,
)
from cxr_keras.metrics.thresholds import choose_thresholds

NAMES = ("Edema", "Mass", "Nodule")


def drawn(seed, prevalence, n, *, distance=2.0):
    """Truth, and the log odds of a network that knows it as well as can be at 0.5 : 0.5.

    Scores of a label's images and of the others are normal, one standard deviation wide and
    `distance` apart; so by Bayes the log odds are linear in the score.
    """
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, len(prevalence))) < prevalence).astype(int)
    score = rng.normal(truth * distance, 1)
    return truth, distance * (score - distance / 2)


def logit(p):
    return np.log(p) - np.log1p(-np.asarray(p))


OLD, NEW = np.array([0.3, 0.5, 0.2]), np.array([0.05, 0.02, 0.6])


def moved(seed, n):
    """A validation split at the old prevalence, on which probabilities are right, and the move."""
    truth, evidence = drawn(seed, OLD, n)
    wanted, trained = (dict(zip(NAMES, part, strict=True)) for part in (NEW, OLD))
    move, _ = plan_move(wanted, truth, trained, labels=NAMES, method="platt", source="t.csv")
    return truth, evidence + logit(OLD), move


def test_a_label_moves_from_its_share_of_the_images_of_which_it_is_known():
    truth = np.random.default_rng(0).random((100, 3)) < OLD
    truth = np.where(np.arange(100)[:, None] < (40, 0, 97), truth, np.nan)
    wanted, trained = (dict(zip(NAMES, part, strict=True)) for part in (NEW, OLD))
    move, _ = plan_move(wanted, truth, trained, labels=NAMES, method="platt", source="t.csv")
    shares = [truth[:40, 0].mean(), OLD[1], truth[:97, 2].mean()]  # known of none: as in training
    np.testing.assert_allclose(move.old, shares)


def test_probabilities_are_calibrated_after_the_move():
    _, _, move = moved(1, 20_000)
    truth, evidence = drawn(2, NEW, 50_000)
    before = expit(evidence + logit(OLD))
    after = scale_logits(evidence + logit(OLD), np.ones(3), move.shift)
    assert (expected_calibration_error(truth, before) > 0.05).all()
    assert (expected_calibration_error(truth, after) < 0.01).all()
    np.testing.assert_allclose(after.mean(axis=0), NEW, rtol=0.05)


@pytest.mark.parametrize("sensitivity", [None, 0.8])
def test_thresholds_are_near_those_of_a_large_sample_there(sensitivity):
    truth, logits, move = moved(3, 20_000)
    here = scale_logits(logits, np.ones(3), move.shift)
    options = {"labels": NAMES, "sensitivity": sensitivity}
    weighted, _ = choose_thresholds(truth, here, prevalence=move.new, **options)
    unweighted, _ = choose_thresholds(truth, here, **options)
    there, evidence = drawn(4, NEW, 200_000)
    large, _ = choose_thresholds(there, expit(evidence + logit(NEW)), **options)
    np.testing.assert_allclose(logit(weighted), logit(large), atol=0.35)
    if sensitivity is None:  # which no weight touches
        assert (abs(logit(unweighted) - logit(large)) > 0.5).all()
    else:
        assert weighted == unweighted


def test_weights_are_copies():
    """A weighted choice is that on a sample with so many copies of each class."""
    truth, logits = drawn(5, OLD, 400)
    probability = expit(logits + logit(OLD))
    for i, name in enumerate(NAMES):
        flags, score = truth[:, [i]], probability[:, [i]]
        copies = np.where(flags[:, 0] == 1, 1, 7)
        repeated = [np.repeat(part, copies, axis=0) for part in (flags, score)]
        share = repeated[0].mean()
        chosen, _ = choose_thresholds(flags, score, labels=[name], prevalence=[share])
        assert chosen == choose_thresholds(*repeated, labels=[name])[0]


def test_the_sample_as_it_is_where_no_prevalence_is_given():
    truth, logits = drawn(6, OLD, 300)
    probability = expit(logits)
    plain, _ = choose_thresholds(truth, probability, labels=NAMES)
    nothing = no_move(NAMES)
    assert choose_thresholds(truth, probability, labels=NAMES, prevalence=nothing.new)[0] == plain
    assert not nothing.shift.any()
    assert nothing.to_dict() is None


@pytest.mark.parametrize("shares", [[0.1, 0.2], [0.1, 0.2, 0.0], [0.1, 0.2, 1.0], [0.1, 0.2, -1]])
def test_shares_that_cannot_be_are_refused(shares):
    truth, logits = drawn(7, OLD, 100)
    with pytest.raises(DataError, match=r"one prevalence per label \(3\), each above 0 and below"):
        choose_thresholds(truth, expit(logits), labels=NAMES, prevalence=shares)
    with pytest.raises(DataError, match="above 0 and below 1"):
        prevalence_shift([0.1, 0.0], [0.2, 0.2])


@pytest.mark.parametrize(
    ("method", "old"),
    [("none", [0.11, 0.12, 0.13]), ("temperature", [0.5, 0.12, 0.3]), ("platt", [0.5, 0.12, 0.3])],
)
def test_labels_move_from_where_their_probabilities_are_right(method, old):
    """The validation split once fitted on it, but for a label with too few images there."""
    truth = np.zeros((40, 3), dtype=int)
    truth[:20, 0], truth[:4, 1], truth[:12, 2] = 1, 1, 1
    base_rates = {"Edema": 0.11, "Mass": 0.12, "Nodule": 0.13}
    options = {"labels": NAMES, "method": method, "source": "t.csv"}
    wanted = {"Edema": 0.3, "Mass": 0.3, "Nodule": 0.3}
    move, sentences = plan_move(wanted, truth, base_rates, **options)
    assert move.old == pytest.approx(old)
    np.testing.assert_allclose(move.shift, logit(0.3) - logit(np.array(old)))
    assert ("training split's prevalence" in sentences[-1]) == (method == "none")


def test_labels_without_a_prevalence_here_or_there_stay_and_are_named():
    truth = np.tile([[0, 1, 0], [1, 0, 0]], (20, 1))
    base_rates = {"Edema": 0.1, "Mass": 0.1, "Nodule": 0.0}
    options = {"labels": NAMES, "method": "platt", "source": "t.csv"}
    move, sentences = plan_move({"Edema": 0.3, "Nodule": 0.2}, truth, base_rates, **options)
    assert move.shift == pytest.approx([logit(0.3) - logit(0.5), 0, 0])
    assert move.to_dict() == {"source": "t.csv", "old": {"Edema": 0.5}, "new": {"Edema": 0.3}}
    assert "t.csv gives no prevalence above 0 and below 1 of these labels" in sentences[1]
    assert sentences[1].endswith("stay as they are: Mass.")
    assert sentences[2].endswith("stay as they are: Nodule.")
    with pytest.raises(DataError, match=r"t\.csv gives no prevalence of a label that this network"):
        plan_move({"Nodule": 0.2}, truth, base_rates, **options)
