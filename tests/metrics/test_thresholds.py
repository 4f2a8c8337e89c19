import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_keras.data.labels import LABELS
from cxr_keras.errors import DataError
from cxr_keras.metrics.per_label import label_table
from cxr_keras.metrics.thresholds import choose_thresholds


def random_case(seed, n=80, k=3, digits=1):
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, k)) < rng.uniform(0.15, 0.7, k)).astype(int)
    return truth, np.round(np.clip(rng.normal(0.3 + 0.2 * truth, 0.2), 0, 1), digits)  # ties


def one(truth, score, **options):
    """The threshold of one label from two plain lists."""
    options = {"min_positives": 1} | options
    thresholds, notices = choose_thresholds(
        np.array(truth)[:, None], np.array(score, dtype=float)[:, None], labels=["A"], **options
    )
    assert notices == []
    return thresholds[0]


def f1_of(truth, called):
    return 2 * (truth & called).sum() / (truth.sum() + called.sum())


def recall_of(truth, called):
    return (truth & called).sum() / truth.sum()


def slow_choice(truth, score, sensitivity=None):
    """The chosen score, by trying each from the highest down."""
    best, chosen = -1.0, None
    for threshold in sorted(set(score), reverse=True):
        called = score >= threshold
        if sensitivity is not None:
            if recall_of(truth, called) >= sensitivity:
                return threshold
        elif f1_of(truth, called) > best:
            best, chosen = f1_of(truth, called), threshold
    return chosen


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([None, 0.3, 0.5, 0.9, 1.0]))
def test_against_trying_every_threshold(seed, digits, sensitivity):
    truth, probability = random_case(seed, digits=digits)
    thresholds, notices = choose_thresholds(
        truth, probability, labels="ABC", sensitivity=sensitivity
    )
    assert notices == []
    for i, threshold in enumerate(thresholds):
        score = probability[:, i]
        chosen = slow_choice(truth[:, i].astype(bool), score, sensitivity)
        assert np.array_equal(score >= threshold, score >= chosen)
        below = max(score[score < chosen], default=0.0)
        assert threshold == pytest.approx((chosen + below) / 2)


@pytest.mark.parametrize(
    ("truth", "score", "threshold"),
    [
        ([1, 1, 0, 0], [0.9, 0.7, 0.3, 0.1], 0.5),  # midway to the next lower score
        ([1, 1, 0, 1], [0.9, 0.7, 0.3, 0.2], 0.1),  # midway from the lowest to 0
        ([1, 0, 0, 1], [0.8, 0.6, 0.4, 0.2], 0.7),  # F1 2/3 twice: the higher threshold
        ([1, 1, 0, 0], [0.8, 0.4, 0.4, 0.2], 0.3),  # equal scores are called together
        ([1, 0, 0, 0], [0.4, 0.4, 0.4, 0.4], 0.2),  # constant
        ([1, 0, 0, 0], [0.0, 0.0, 0.0, 0.0], 0.0),
        ([0, 1, 1, 0], [1.0, 1.0, 1.0, 0.0], 0.5),
    ],
)
def test_toys_by_hand(truth, score, threshold):
    assert one(truth, score) == pytest.approx(threshold)


def test_neighbouring_floats_have_no_middle():
    low = 0.3
    for _ in range(2):  # one of the two middles rounds down
        high = np.nextafter(low, 1)
        assert one([1, 0], [high, low]) == high
        low = high


@pytest.mark.parametrize("sensitivity", [0.05, 0.3, 0.7, 0.9, 1.0])
def test_sensitivity_is_reached_and_the_next_higher_score_misses_it(sensitivity):
    truth, probability = random_case(5, n=300, digits=2)
    thresholds, _ = choose_thresholds(truth, probability, labels="ABC", sensitivity=sensitivity)
    table = label_table(truth, probability, thresholds=thresholds, labels=list("ABC"))
    assert (table["recall"][:3] >= sensitivity).all()
    for i, threshold in enumerate(thresholds):
        score = probability[:, i]
        fewer = score > score[score >= threshold].min()
        assert recall_of(truth[:, i] == 1, fewer) < sensitivity


def test_a_sensitivity_of_exactly_k_of_n_is_reached_by_k():
    for positives in range(1, 60):
        score = np.linspace(0.9, 0.1, positives + 1)
        truth = [1] * positives + [0]
        for hits in range(1, positives + 1):
            threshold = one(truth, score, sensitivity=float(f"{hits / positives}"))
            assert (score >= threshold).sum() == hits


def test_f1_is_that_of_the_table_and_no_grid_beats_it():
    truth, probability = random_case(6, n=200, k=4, digits=3)
    names = LABELS[:4]
    thresholds, _ = choose_thresholds(truth, probability, labels=names)
    best = label_table(truth, probability, thresholds=thresholds, labels=names)["f1"][:4]
    for threshold in np.linspace(0, 1, 21):
        rival = label_table(truth, probability, thresholds=float(threshold), labels=names)
        assert (best >= rival["f1"][:4].fillna(0)).all()


@pytest.mark.parametrize("sensitivity", [None, 0.8])
def test_the_order_of_images_and_of_labels_does_not_matter(sensitivity):
    truth, probability = random_case(7)
    expected, _ = choose_thresholds(truth, probability, labels="ABC", sensitivity=sensitivity)
    rows = np.random.default_rng(0).permutation(len(truth))
    shuffled, _ = choose_thresholds(
        truth[rows], probability[rows], labels="ABC", sensitivity=sensitivity
    )
    turned, _ = choose_thresholds(
        truth[:, ::-1], probability[:, ::-1], labels="CBA", sensitivity=sensitivity
    )
    assert shuffled == turned[::-1] == expected
    assert all(type(threshold) is float for threshold in expected)


@pytest.mark.parametrize("sensitivity", [None, 0.8])
def test_labels_with_too_little_to_choose_from_share_one_notice(sensitivity):
    truth, probability = random_case(8, k=4)
    truth[:, 0], truth[:, 2] = 0, 1
    truth[:, 3] = [1] * 4 + [0] * 76
    names = ["Edema", "Mass", "Nodule", "Hernia"]
    thresholds, notices = choose_thresholds(
        truth, probability, labels=names, sensitivity=sensitivity
    )
    assert [thresholds[i] for i in (0, 2, 3)] == [0.5] * 3
    assert notices == [
        "Labels with fewer than 5 positives or no negative keep the threshold 0.5; "
        "their positives: Edema 0, Nodule 80, Hernia 4."
    ]
    alone, none = choose_thresholds(truth[:, [1]], probability[:, [1]], labels=["Mass"])
    assert none == []
    assert sensitivity or alone[0] == thresholds[1]
    _, fewer = choose_thresholds(truth, probability, labels=names, min_positives=0)
    assert "Edema 0, Nodule 80." in fewer[0]


def f1_at(prevalence, truth, called):
    """F1 as it would be where the label has that share of the images."""
    found, alarms = called[truth].mean(), called[~truth].mean()
    positive = prevalence * found + (1 - prevalence) * alarms
    return 2 * prevalence * found / (positive + prevalence)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3))
def test_with_a_prevalence_no_threshold_has_a_higher_f1_there(seed, prevalence):
    truth, probability = random_case(seed, digits=2)
    truth[:, 2], truth[seed % 80, 2] = 1, 0  # a single negative
    found, _ = choose_thresholds(truth, probability, labels="ABC", prevalence=prevalence)
    for i, (threshold, share) in enumerate(zip(found, prevalence, strict=True)):
        flags, score = truth[:, i] == 1, probability[:, i]
        best = max(f1_at(share, flags, score >= limit) for limit in set(score))
        assert f1_at(share, flags, score >= threshold) == pytest.approx(best)


def test_a_prevalence_by_hand():
    truth, score = [1, 0, 1, 0], [0.9, 0.7, 0.5, 0.1]
    # F1 of the first image is ⅔ at any prevalence p, of the first three 2 / (2 + (1 - p) / 2p)
    assert one(truth, score, prevalence=[0.5]) == pytest.approx(0.3)
    assert one(truth, score, prevalence=[0.35]) == pytest.approx(0.3)  # 0.6829
    assert one(truth, score, prevalence=[0.33]) == pytest.approx(0.8)  # 0.6633, below ⅔
    # a single negative: 2 / (2 + (1 - p) / p) is 0.57 of all three
    assert one([1, 0, 1], [0.9, 0.5, 0.1], prevalence=[0.4]) == pytest.approx(0.7)


def test_a_label_without_a_prevalence_takes_the_images_as_they_are():
    for seed in range(10):
        truth, probability = random_case(seed, digits=2)
        plain, _ = choose_thresholds(truth, probability, labels="ABC")
        mixed, _ = choose_thresholds(
            truth, probability, labels="ABC", prevalence=[np.nan, 0.02, np.nan]
        )
        assert (mixed[0], mixed[2]) == (plain[0], plain[2])
        own, _ = choose_thresholds(truth, probability, labels="ABC", prevalence=[0.02] * 3)
        assert mixed[1] == own[1]


@pytest.mark.parametrize(
    "prevalence", [[0.1, 0.2], 0.1, [0.1, 0.2, 0.0], [1.0, 0.2, 0.3], [0.1, -0.5, 0.1], [2, 3, 4]]
)
def test_a_prevalence_that_cannot_be_is_refused(prevalence):
    says = r"Give one prevalence per label \(3\), each above 0 and below 1\. Received: "
    with pytest.raises(DataError, match=says):
        choose_thresholds(*random_case(9), labels="ABC", prevalence=prevalence)


@pytest.mark.parametrize("sensitivity", [0, -0.1, 1.5, float("nan"), float("inf")])
def test_a_sensitivity_that_cannot_be_is_refused(sensitivity):
    with pytest.raises(DataError) as caught:
        choose_thresholds(*random_case(9), labels="ABC", sensitivity=sensitivity)
    assert str(caught.value) == (
        f"Sensitivity must be above 0 and at most 1. Received: {sensitivity}."
    )


def test_bad_arrays_are_refused():
    truth, probability = random_case(10)
    with pytest.raises(DataError, match=r"\(n_samples, 2\)"):
        choose_thresholds(truth, probability, labels="AB")
    with pytest.raises(DataError, match="NaN"):
        choose_thresholds(truth, probability * np.nan, labels="ABC")
