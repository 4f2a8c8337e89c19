import json

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from cxr_keras.errors import DataError
from cxr_keras.metrics.calibration import (
    ALL_LABELS,
    MAX_SLOPE,
    MIN_SLOPE,
    Scaling,
    brier_score,
    expected_calibration_error,
    fit_scaling,
    prevalence_shift,
    reliability_table,
)
from cxr_keras.metrics.per_label import binary_cross_entropy

NAMES = ["Edema", "Mass", "Nodule"]
IDENTITY = Scaling("none", (1.0,) * 3, (0.0,) * 3)


def random_case(seed, n=200, k=3, digits=2):
    rng = np.random.default_rng(seed)
    probability = np.round(rng.random((n, k)) ** 2, digits)  # ties, zeros and edges of bins
    return (rng.random((n, k)) < 0.1 + 0.6 * probability).astype(int), probability


def drawn(seed, slope, shift, n=20_000):
    """Truth drawn from known probabilities, and these before slope and shift."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(-1, 1.5, (n, len(slope)))
    truth = rng.random(raw.shape) < expit(np.array(slope) * raw + np.array(shift))
    return truth.astype(int), expit(raw)


def slow_bins(truth, probability, bins):
    """(low, high, mean probability, rate, images) of the occupied bins of one label."""
    found = []
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = [
            (p, t)
            for p, t in zip(probability, truth, strict=True)
            if low < p <= high or (b == 0 and p == 0)
        ]
        if inside:
            mean, rate = np.mean(inside, axis=0)
            found.append((low, high, mean, rate, len(inside)))
    return found


def test_brier_by_hand_and_against_scikit_learn():
    assert brier_score([[1, 0], [0, 0]], [[0.5, 0.0], [0.1, 0.2]]) == pytest.approx([0.13, 0.02])
    truth, probability = random_case(1)
    expected = [reference.brier_score_loss(truth[:, i], probability[:, i]) for i in range(3)]
    assert brier_score(truth, probability) == pytest.approx(expected)


def test_calibration_error_by_hand():
    truth = [[1], [0], [1], [1]]
    probability = [[0.1], [0.3], [0.8], [1.0]]
    # two bins: |0.4 - 1| + |1.8 - 2| over 4 images
    assert expected_calibration_error(truth, probability, bins=2) == pytest.approx([0.2])
    assert expected_calibration_error(truth, probability, bins=1) == pytest.approx([0.2])
    assert expected_calibration_error(truth, truth) == pytest.approx([0.0])
    assert expected_calibration_error(truth, 1 - np.array(truth)) == pytest.approx([1.0])


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 10, 15]))
def test_bins_against_a_slow_loop(seed, bins):
    truth, probability = random_case(seed, n=70)
    error = expected_calibration_error(truth, probability, bins=bins)
    table = reliability_table(truth, probability, labels=NAMES, bins=bins)
    columns = [(NAMES[i], truth[:, i], probability[:, i]) for i in range(3)]
    columns.append((ALL_LABELS, truth.ravel(), probability.ravel()))
    assert list(dict.fromkeys(table["label"])) == [*NAMES, ALL_LABELS]
    for i, (name, flags, score) in enumerate(columns):
        expected = slow_bins(flags, score, bins)
        rows = table[table["label"] == name]
        names = ["bin_low", "bin_high", "mean_probability", "observed_rate", "images"]
        assert rows[names].to_numpy() == pytest.approx(np.array(expected))
        if i < 3:
            by_hand = sum(abs(mean - rate) * images for _, _, mean, rate, images in expected)
            assert error[i] == pytest.approx(by_hand / 70)


def test_the_calibration_error_has_fifteen_bins_unless_told_otherwise():
    truth, probability = random_case(10, n=70)
    for i, error in enumerate(expected_calibration_error(truth, probability)):
        bins = slow_bins(truth[:, i], probability[:, i], 15)
        assert error * 70 == pytest.approx(sum(abs(m - rate) * n for _, _, m, rate, n in bins))


def test_a_score_on_an_edge_lies_in_the_lower_bin():
    probability = np.array([[0.0], [0.3], [0.6], [0.7], [1.0]])
    table = reliability_table(np.ones((5, 1)), probability, labels=["A"])
    own = table[table["label"] == "A"]
    assert own["bin_high"].tolist() == [0.1, 0.3, 0.6, 0.7, 1.0]
    assert own["images"].tolist() == [1] * 5
    assert table["images"].dtype.kind == "i"


@pytest.mark.parametrize("temperature", [0.5, 2.0, 3.0])
def test_a_known_temperature_is_found(temperature):
    truth, probability = drawn(2, (1, 1, 1), (0, 0, 0))
    spoilt = expit(temperature * logit(probability))
    scaling, notices = fit_scaling(truth, spoilt, labels=NAMES, method="temperature")
    assert notices == []
    assert len(set(scaling.slope)) == 1
    assert scaling.shift == (0, 0, 0)
    assert 1 / scaling.slope[0] == pytest.approx(temperature, rel=0.03)
    assert scaling.apply(spoilt) == pytest.approx(probability, abs=0.01)
    mended = expected_calibration_error(truth, scaling.apply(spoilt))
    assert (mended < expected_calibration_error(truth, spoilt)).all()


def test_known_platt_parameters_are_found():
    slope, shift = (0.5, 1.0, 2.5), (-1.0, 0.0, 2.0)
    scaling, notices = fit_scaling(*drawn(3, slope, shift), labels=NAMES, method="platt")
    assert notices == []
    assert scaling.slope == pytest.approx(slope, rel=0.05)
    assert scaling.shift == pytest.approx(shift, abs=0.06)


def test_platt_is_the_minimum():
    truth, probability = random_case(4, n=300)
    probability = np.clip(probability, 0.01, 0.99)
    scaling, _ = fit_scaling(truth, probability, labels=NAMES, method="platt")
    scaled = scaling.apply(probability)
    error = scaled - truth  # at the minimum both derivatives are 0
    assert error.mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-5)
    assert (error * logit(probability)).mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-5)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["temperature", "platt"]), st.integers(0, 8))
def test_cross_entropy_never_rises_and_the_order_stays(seed, method, digits):
    truth, probability = random_case(seed, n=60, digits=digits)
    scaling, _ = fit_scaling(truth, probability, labels=NAMES, method=method)
    scaled = scaling.apply(probability)
    before, after = (binary_cross_entropy(truth, p) for p in (probability, scaled))
    assert after <= before + 1e-12
    for i in range(3):
        order = np.argsort(probability[:, i])
        steps, given_steps = np.diff(scaled[order, i]), np.diff(probability[order, i])
        assert (steps >= 0).all()
        assert (steps[given_steps > 0] > 0).all()
        assert (steps[given_steps == 0] == 0).all()
        auroc = reference.roc_auc_score(truth[:, i], probability[:, i])
        assert reference.roc_auc_score(truth[:, i], scaled[:, i]) == auroc


@pytest.mark.parametrize("method", ["temperature", "platt"])
@pytest.mark.parametrize("scores", [(0.25, 0.75), (0.2, 0.6), (0.1, 0.9)])
def test_calibrated_probabilities_are_not_made_worse_by_a_hair(method, scores):
    probability = np.repeat(scores, 20)[:, None]
    truth = np.concatenate([np.arange(20) < round(20 * p) for p in scores])[:, None]
    scaling, _ = fit_scaling(truth, probability, labels=["A"], method=method)
    scaled = scaling.apply(probability)
    assert scaled == pytest.approx(probability, abs=1e-5)
    assert binary_cross_entropy(truth, scaled) <= binary_cross_entropy(truth, probability)


def test_scores_beyond_the_clip_keep_their_order():
    low = np.array([0, 1e-12, 1e-9, 2e-9, 9e-8, 1e-7, 2e-7, 0.5])
    probability = np.concatenate([low, 1 - low[:-1][::-1]]).astype("float32")[:, None]
    scaled = Scaling("temperature", (0.5,), (0.0,)).apply(probability)
    assert np.isfinite(scaled).all()
    assert (np.diff(scaled[:, 0])[np.diff(probability[:, 0]) > 0] > 0).all()
    assert scaled[0, 0] == pytest.approx(expit(0.5 * logit(1e-7)), rel=1e-6)


@pytest.mark.parametrize("method", ["temperature", "platt"])
@pytest.mark.parametrize("scores", [(0.2, 0.4), (0.0, 1.0), (1e-5, 2e-5), (0.5, 0.5)])
def test_separable_and_constant_scores_stay_finite(method, scores):
    truth = np.repeat([0, 1], 30)[:, None]
    probability = np.array(scores)[truth]
    scaling, notices = fit_scaling(truth, probability, labels=["A"], method=method)
    assert notices == []
    assert MIN_SLOPE < scaling.slope[0] <= MAX_SLOPE
    scaled = scaling.apply(probability)
    assert np.isfinite(scaled).all()
    assert binary_cross_entropy(truth, scaled) <= binary_cross_entropy(truth, probability)


def test_a_slope_is_held_at_5_where_nothing_else_holds_it():
    truth = np.repeat([0, 1], 30)[:, None]
    for method in ("temperature", "platt"):
        scaling, _ = fit_scaling(truth, np.array([0.2, 0.8])[truth], labels=["A"], method=method)
        assert scaling.slope[0] == pytest.approx(5, rel=1e-3)


def test_a_slope_of_1_leaves_the_shift_to_be_applied():
    scaling = Scaling("platt", (1.0, 1.0), (2.0, 0.0))
    assert scaling.apply([[0.5, 0.3]])[0] == pytest.approx([expit(2), 0.3])


def test_scores_in_double_precision_are_told_apart_far_below_the_clip_of_others():
    scaled = Scaling("temperature", (0.5,), (0.0,)).apply([[1e-14], [1e-12], [1 - 1e-12]])
    expected = [expit(0.5 * logit(p)) for p in (1e-14, 1e-12, 1 - 1e-12)]
    assert scaled[:, 0] == pytest.approx(expected, rel=1e-6)


def test_constant_scores_are_shifted_to_the_rate_and_keep_their_slope():
    truth = np.array([1] * 30 + [0] * 10)[:, None]
    scaling, _ = fit_scaling(truth, np.full((40, 1), 0.02), labels=["A"], method="platt")
    assert scaling.slope == pytest.approx((1.0,), abs=1e-4)
    assert scaling.apply([[0.02]])[0, 0] == pytest.approx(0.75, abs=1e-4)


def test_platt_never_turns_the_order():
    truth, probability = random_case(5)
    truth[:, 1] = probability[:, 1] < 0.3
    scaling, notices = fit_scaling(truth, probability, labels=NAMES, method="platt")
    assert notices == [
        "Higher scores do not go with more positives; the slope is held at 0.05, so that the order "
        "of images stays, for: Mass."
    ]
    assert scaling.slope[1] == MIN_SLOPE
    own, scaled = truth[:, [1]], scaling.apply(probability)[:, [1]]
    assert scaled.mean() == pytest.approx(own.mean(), abs=1e-4)  # nearly the rate everywhere
    assert binary_cross_entropy(own, scaled) < binary_cross_entropy(own, probability[:, [1]])


def test_a_temperature_says_too_where_scores_go_the_wrong_way():
    rng = np.random.default_rng(0)
    probability = rng.random((400, 1))
    truth = (rng.random((400, 1)) > probability).astype(float)
    scaling, notices = fit_scaling(truth, probability, labels=["A"], method="temperature")
    assert scaling.slope == pytest.approx((MIN_SLOPE,), rel=1e-3)
    assert len(notices) == 1
    assert notices[0].startswith("Higher scores do not go with more positives")


def test_labels_with_too_little_to_fit_keep_their_probabilities():
    truth, probability = random_case(6)
    truth[:, 0], truth[:, 2] = 0, 1
    truth[:3, 2] = 0
    scaling, notices = fit_scaling(truth, probability, labels=NAMES, method="platt")
    assert notices == [
        "Labels with fewer than 5 positives or negatives keep their probabilities; "
        "their positives: Edema 0, Nodule 197."
    ]
    scaled = scaling.apply(probability)
    assert np.array_equal(scaled[:, [0, 2]], probability[:, [0, 2]])
    assert not np.array_equal(scaled[:, 1], probability[:, 1])
    _, fewer = fit_scaling(truth, probability, labels=NAMES, method="platt", min_positives=0)
    assert "positives: Edema 0." in fewer[0]


@pytest.mark.parametrize("rare", [0, 1])
def test_five_of_either_class_are_enough_to_fit(rare):
    truth, probability = random_case(6)
    truth[:, 0] = 1 - rare
    truth[:5, 0] = rare
    scaling, notices = fit_scaling(truth, probability, labels=NAMES, method="platt")
    assert not any("keep their probabilities" in notice for notice in notices)
    assert scaling.slope[0] != 1


def test_one_positive_is_enough_where_one_is_asked_for():
    truth, probability = random_case(6)
    truth[:, 0] = np.arange(200) == 7
    for fewest in (0, 1):
        scaling, notices = fit_scaling(
            truth, probability, labels=NAMES, method="platt", min_positives=fewest
        )
        assert not any("keep their probabilities" in notice for notice in notices)
        assert scaling.slope[0] != 1


def test_what_is_too_rare_to_fit_is_kept_even_where_a_steeper_slope_would_suit_it():
    truth, probability = np.zeros((40, 1)), np.full((40, 1), 0.1)
    scaling, _ = fit_scaling(truth, probability, labels=["A"], method="platt")
    assert (scaling.slope, scaling.shift) == ((1,), (0,))


def test_one_temperature_needs_positives_in_all_labels_together():
    truth, probability = random_case(7)
    truth[:, 0] = 0
    _, notices = fit_scaling(truth, probability, labels=NAMES, method="temperature")
    assert notices == []
    scaling, notices = fit_scaling(truth * 0, probability, labels=NAMES, method="temperature")
    assert scaling.slope == (1, 1, 1)
    assert notices[0].endswith("their positives: all labels 0.")


def test_none_changes_nothing():
    truth, probability = random_case(8)
    assert fit_scaling(truth, probability, labels=NAMES, method="none") == (IDENTITY, [])
    outputs = probability.astype("float32")
    assert IDENTITY.apply(outputs) is outputs


@pytest.mark.parametrize(
    "scaling",
    [
        IDENTITY,
        Scaling("temperature", (1 / 3,) * 3, (0.0,) * 3),
        Scaling("platt", (0.1, 1.0, 2.0), (-0.3, 0.0, 1e-9)),
    ],
)
def test_a_scaling_comes_back_from_json(scaling):
    assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


@pytest.mark.parametrize(
    "change",
    [
        {"method": "isotonic"},
        {"method": ["platt"]},
        {"slope": [1.0]},
        {"slope": [], "shift": []},
        {"slope": [1.0, 0.0]},
        {"slope": [1.0, -2.0]},
        {"slope": [1.0, float("nan")]},
        {"slope": [1.0, 10**400]},
        {"slope": "11"},
        {"slope": 1.0},
        {"slope": None},
        {"shift": [0.0, float("inf")]},
        {"shift": ["0", "0"]},
        {"method": "none", "slope": [2.0, 2.0]},
        {"method": "none", "shift": [0.0, 1.0]},
        {"method": "temperature", "slope": [1.0, 2.0]},
        {"method": "temperature", "shift": [1.0, 1.0]},
    ],
)
def test_nonsense_is_no_scaling(change):
    good = {"method": "platt", "slope": [1.0, 1.0], "shift": [0.0, 0.0]}
    Scaling.from_dict(good)
    with pytest.raises(ValueError, match=r"Scaling|scaling"):
        Scaling.from_dict(good | change)


@pytest.mark.parametrize("content", [None, [], "platt", 3, {}, {"method": "none"}])
def test_what_is_no_mapping_is_no_scaling(content):
    with pytest.raises(ValueError, match="no scaling"):
        Scaling.from_dict(content)


def test_bad_arguments_are_refused():
    truth, probability = random_case(9)
    with pytest.raises(DataError) as caught:
        fit_scaling(truth, probability, labels=NAMES, method="isotonic")
    assert str(caught.value) == (
        "Unknown scaling 'isotonic'. Choose one of: none, temperature, platt."
    )
    with pytest.raises(DataError, match=r"^Scaling takes \(n_samples, 3\). Received: \(200, 2\)."):
        IDENTITY.apply(probability[:, :2])
    with pytest.raises(DataError, match=r"Received: \(3,\)"):
        IDENTITY.apply(probability[0])
    for wrong in (probability + 1, probability - 1, probability * np.nan):
        with pytest.raises(DataError, match="0…1"):
            IDENTITY.apply(wrong)
    with pytest.raises(DataError, match=r"must be 1 or more. Received: 0."):
        expected_calibration_error(truth, probability, bins=0)
    with pytest.raises(DataError, match="shape"):
        brier_score(truth[:, 0], probability[:, 0])
    with pytest.raises(DataError, match="0, 1 or NaN"):
        expected_calibration_error(truth + 1, probability)
    with pytest.raises(DataError, match=r"\(n_samples, 2\)"):
        reliability_table(truth, probability, labels=NAMES[:2])


def test_a_shift_to_another_prevalence_is_bayes_rule():
    """A positive counts new / old times as often as before, a negative by the rest of these."""
    score, old, new = np.array([0.001, 0.2, 0.9]), np.array([0.1, 0.3, 0.5]), [0.3, 0.02, 0.6]
    having, lacking = score * new / old, (1 - score) * (1 - np.array(new)) / (1 - old)
    moved = expit(logit(score) + prevalence_shift(old, new))
    assert moved == pytest.approx(having / (having + lacking))
    assert prevalence_shift(old, old) == pytest.approx(np.zeros(3))


@pytest.mark.parametrize("wrong", [0, 1, -0.1, 1.1, np.nan])
def test_a_shift_to_or_from_what_is_no_prevalence_is_refused(wrong):
    for pair in (([0.1, wrong], [0.2, 0.2]), ([0.1, 0.1], [0.2, wrong])):
        with pytest.raises(DataError, match=r"above 0 and below 1\. Received: "):
            prevalence_shift(*pair)
