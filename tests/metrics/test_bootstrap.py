from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from cxr_keras.errors import DataError
from cxr_keras.metrics import bootstrap, weighted


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
INTERVAL = ["auroc_low", "auroc_high", "ap_low", "ap_high"]


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
    called = score >= 0.5
    return (
        precision_score(truth, called, zero_division=np.nan),
        recall_score(truth, called, zero_division=np.nan),
        f1_score(truth, called, zero_division=np.nan),
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
        kept = kept.fillna(pd.DataFrame(first)) if measures is at_a_half else kept
        means = [kept.iloc[columns].mean() for columns in averages.values()]  # skips NaN
        rows.append(np.vstack([found, *means]))
    return np.moveaxis(np.array(rows), 2, 0)


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_weighted_measures_against_scikit_learn(decimals):
    truth, score, codes = random_case(decimals, n=200, decimals=decimals)
    weights = np.random.default_rng(1).integers(0, 4, (12, 21)).astype(float)
    weights[:, 0] = 0  # nobody
    score[:, 3] = 0.5  # constant
    for t, s in zip(truth.T, score.T, strict=True):
        ranking = weighted.rank_images(t.astype(bool), s, codes + 1)
        expected = [scikit_learn(t, s, w[codes + 1]) for w in weights]
        np.testing.assert_allclose(
            weighted.auroc_and_ap(ranking, weights.T).T, expected, rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("seed", [0, 1])
def test_intervals_against_images_truly_repeated(seed):
    truth, probability, patients = random_case(seed, n=30, patients=9)
    truth[:, 2] = patients == patients[0]  # one positive patient: some resamples have none
    table = intervals(truth, probability, patients, resamples=25, seed=seed, level=0.9, **NAMED)
    both = slow_bootstrap(truth, probability, patients, 25, seed)
    assert np.isnan(both[0, 1:, 2]).any()
    assert table["label"].tolist() == [*LABELS, *AVERAGES]
    for values, measure in zip(both, ("auroc", "ap"), strict=True):
        low, high = np.nanpercentile(values[1:], [5, 95], axis=0)
        np.testing.assert_allclose(table[measure], values[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(table[f"{measure}_low"], low, rtol=0, atol=1e-12)
        np.testing.assert_allclose(table[f"{measure}_high"], high, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_intervals_at_a_threshold_against_images_truly_repeated(seed):
    truth, probability, patients = random_case(seed, n=30, patients=9)
    truth[:, 1] = patients == patients[0]  # some resamples have no recall of it
    probability[patients != patients[1], 2] = 0.1  # some resamples predict none of it
    predicted = probability >= 0.5
    options = {"predicted": predicted, "resamples": 25, "seed": seed, "level": 0.9} | NAMED
    table = intervals(truth, probability, patients, **options)
    found = slow_bootstrap(truth, probability, patients, 25, seed, measures=at_a_half)
    assert np.isnan(found[:2, 1:, 1:3]).any(axis=(1, 2)).all()
    for values, measure in zip(found, ("precision", "recall", "f1"), strict=True):
        low, high = np.nanpercentile(values[1:], [5, 95], axis=0)
        low, high = np.where(low < high, (low, high), np.nan)  # no resample differs: no interval
        np.testing.assert_allclose(table[measure], values[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(table[f"{measure}_low"], low, rtol=0, atol=1e-12)
        np.testing.assert_allclose(table[f"{measure}_high"], high, rtol=0, atol=1e-12)
    without = intervals(truth, probability, patients, resamples=25, seed=seed, level=0.9, **NAMED)
    pd.testing.assert_frame_equal(table[without.columns], without, check_exact=True)


def test_a_measure_that_no_resample_moves_has_no_interval():
    """Zero of 30 found says that few are found, not that exactly none ever is."""
    truth = np.arange(60)[:, None] < 30
    never = np.zeros((60, 1))
    found = bootstrap.intervals(
        truth, never, range(60), labels="a", averages={}, predicted=never
    ).iloc[0]
    assert found[["recall", "f1"]].tolist() == [0, 0]
    assert np.isnan(found["precision"])
    assert (
        found[[f"{m}_{b}" for m in ("precision", "recall", "f1") for b in ("low", "high")]]
        .isna()
        .all()
    )
    assert found[["auroc_low", "auroc_high"]].tolist() == [0.5, 0.5]


def test_precision_of_a_label_predicted_for_few_patients_has_no_interval():
    truth, probability, _ = random_case(1, n=200, decimals=9)
    for number, bounded in ((4, False), (5, True)):
        predicted = np.zeros_like(truth)
        predicted[np.flatnonzero(truth[:, 0])[: number - 1], 0] = 1
        predicted[np.flatnonzero(truth[:, 0] == 0)[0], 0] = 1
        row = bootstrap.intervals(
            truth, probability, range(200), **NAMED, predicted=predicted
        ).iloc[0]
        assert row[["precision_low", "precision_high"]].notna().all() == bounded
        assert row[["recall_low", "recall_high", "f1_low", "f1_high"]].notna().all()


def test_an_average_over_labels_without_intervals_has_none():
    truth, probability, patients = random_case(2, n=300, patients=100)
    truth[:, :3] = 0
    truth[:4, :3] = 1  # four patients at most
    table = bootstrap.intervals(truth, probability, patients, **NAMED).set_index("label")
    assert table.loc["first three", ["auroc", "ap"]].notna().all()
    assert table.loc["first three", INTERVAL].isna().all()
    assert table.loc["all", INTERVAL].notna().all()


@pytest.mark.parametrize("wrong", [np.full((60, 4), 0.5), np.ones((60, 3)), np.ones(60)])
def test_predicted_labels_that_are_none_are_refused(wrong):
    with pytest.raises(DataError, match=r"Predicted labels must be 0 or 1, of the shape \(60, 4\)"):
        intervals(*random_case(0), predicted=wrong, **NAMED)


def test_paired_differences_against_images_truly_repeated():
    truth, one, patients = random_case(2, n=30, patients=9)
    other = np.round(0.8 * one + 0.2 * truth, 2)
    truth[:, 2] = patients == patients[0]
    table = paired_differences(truth, one, other, patients, resamples=25, seed=5, **NAMED)
    before, after = (slow_bootstrap(truth, p, patients, 25, 5) for p in (one, other))
    for a, b, measure in zip(before, after, ("auroc", "ap"), strict=True):
        difference = b - a
        low, high = np.nanpercentile(difference[1:], [2.5, 97.5], axis=0)
        expected = {"a": a[0], "b": b[0], "difference": difference[0], "low": low, "high": high}
        for name, values in expected.items():
            np.testing.assert_allclose(table[f"{measure}_{name}"], values, rtol=0, atol=1e-12)
        for p, column in zip(table[f"{measure}_p"], difference[1:].T, strict=True):
            d = column[~np.isnan(column)]
            d[abs(d) < 1e-12] = 0  # scikit-learn's rounding
            shares = [(1 + (d <= 0).sum()) / (len(d) + 1), (1 + (d >= 0).sum()) / (len(d) + 1)]
            assert p == pytest.approx(min(1, 2 * min(shares)))


def test_a_toy_by_hand():
    # best first: positive; positive and negative tied; negative
    table = intervals(
        [[1], [1], [0], [0]], [[0.9], [0.5], [0.5], [0.1]], "wxyz", labels="a", averages={}
    )
    assert table["auroc"].tolist() == [(2 + 1.5) / 4]
    assert table["ap"].tolist() == [pytest.approx((1 + 2 / 3) / 2)]
    # two patients of one image each: only the resamples that hold both define anything
    table = intervals([[1], [0]], [[0.2], [0.6]], [1, 2], labels="a", averages={})
    assert table.loc[0, "auroc":].tolist() == [0, 0, 0, 0.5, 0.5, 0.5]


def test_p_by_hand():
    # patients 1 and 2 must both be drawn; then b is right and a is wrong
    table = paired_differences(
        [[1], [0]], [[0.2], [0.6]], [[0.6], [0.2]], [1, 2], labels="a", averages={}, resamples=99
    )
    rng = np.random.default_rng(0)
    defined = sum(len(set(rng.integers(2, size=2))) == 2 for _ in range(99))
    assert table.loc[0, ["auroc_difference", "auroc_low", "auroc_high"]].tolist() == [1, 1, 1]
    assert table["auroc_p"].tolist() == [pytest.approx(2 / (defined + 1))]


def test_a_label_with_one_class_is_nan_and_left_out_of_averages():
    truth, probability, patients = random_case(3)
    truth[:, 1], truth[:, 3] = 0, 1
    averages = AVERAGES | {"undefined": [1, 3], "nothing": []}
    table = intervals(
        truth, probability, patients, labels=LABELS, averages=averages, resamples=50
    ).set_index("label")
    assert table.loc[["b", "d", "undefined", "nothing"]].isna().all(axis=None)
    assert table.loc[["a", "c", "all"]].notna().all(axis=None)
    for measure in ("auroc", "ap"):
        assert table.loc["all", measure] == pytest.approx(table.loc[["a", "c"], measure].mean())
    both = paired_differences(truth, probability, probability, patients, resamples=9, **NAMED)
    assert both.set_index("label").loc["b"].isna().all()


def test_a_single_resample_without_a_class_leaves_the_interval_undefined():
    seed = next(s for s in range(99) if len(set(np.random.default_rng(s).integers(2, size=2))) < 2)
    case = ([[1], [0]], [[0.6], [0.2]])
    options = {"labels": "a", "averages": {}, "resamples": 1, "seed": seed}
    table = intervals(*case, [1, 2], **options)
    assert table.loc[0, ["auroc", "ap"]].tolist() == [1, 1]
    assert table.loc[0, INTERVAL].isna().all()
    assert np.isnan(paired_differences(*case, case[1], [1, 2], **options).loc[0, "ap_p"])


def test_one_patient_has_measures_without_bounds():
    truth, probability, _ = random_case(3)
    table = intervals(truth, probability, ["me"] * 60, resamples=9, **NAMED)
    assert table[["auroc", "ap"]].notna().all(axis=None)
    assert table[INTERVAL].isna().all(axis=None)
    both = paired_differences(truth, probability, probability, [1] * 60, resamples=9, **NAMED)
    assert both["ap_difference"].eq(0).all()
    assert both[["auroc_low", "auroc_high", "auroc_p", "ap_p"]].isna().all(axis=None)


def test_copies_of_a_patients_images_do_not_narrow_the_interval():
    truth, probability, _ = random_case(4)
    once = intervals(truth, probability, np.arange(60), resamples=100, **NAMED)
    five = [np.repeat(array, 5, axis=0) for array in (truth, probability, np.arange(60))]
    pd.testing.assert_frame_equal(intervals(*five, resamples=100, **NAMED), once, rtol=1e-12)
    strangers = intervals(five[0], five[1], np.arange(300), resamples=100, **NAMED)
    narrower = (strangers["auroc_high"] - strangers["auroc_low"]) / (
        once["auroc_high"] - once["auroc_low"]
    )
    assert narrower.max() < 0.7  # √(1/5) is 0.45


@pytest.mark.parametrize("name", [int, str, lambda p: (p // 7, p % 7), lambda p: f"{p}" * (p % 2)])
def test_the_order_of_the_images_does_not_matter(name):
    truth, probability, patients = random_case(5)
    names = [name(p) for p in patients]
    mixed = np.random.default_rng(0).permutation(60)
    first = intervals(truth, probability, names, resamples=50, **NAMED)
    second = intervals(
        truth[mixed], probability[mixed], [names[i] for i in mixed], resamples=50, **NAMED
    )
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_blocks_change_nothing_and_progress_counts_them(monkeypatch):
    truth, probability, patients = random_case(6)
    case, pair = (truth, probability, patients), (truth, probability, probability**2, patients)
    options = {"resamples": 20} | NAMED
    whole, whole_pair = intervals(*case, **options), paired_differences(*pair, **options)
    for size, expected in ((1, [1] * 20), (7, [7, 7, 6]), (20, [20])):
        monkeypatch.setattr(bootstrap, "_BLOCK_BYTES", size * 8 * bootstrap._ARRAYS * 60)
        done, done_pair = [], []
        table = intervals(*case, progress=done.append, **options)
        pd.testing.assert_frame_equal(table, whole, check_exact=True)
        table = paired_differences(*pair, progress=done_pair.append, **options)
        pd.testing.assert_frame_equal(table, whole_pair, check_exact=True)
        assert done == done_pair == expected


def test_the_seed_is_what_differs():
    case = random_case(7)
    one, same, other = (intervals(*case, resamples=50, seed=s, **NAMED) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same, check_exact=True)
    assert one["auroc"].equals(other["auroc"])
    assert not one["auroc_low"].equals(other["auroc_low"])


def test_a_run_does_not_differ_from_itself():
    truth, probability, patients = random_case(8)
    for other in (probability, probability / 2):  # the same order is the same run
        table = paired_differences(truth, probability, other, patients, resamples=50, **NAMED)
        for measure in ("auroc", "ap"):
            columns = [f"{measure}_{name}" for name in ("difference", "low", "high")]
            assert table[columns].eq(0).all(axis=None)
            assert table[f"{measure}_p"].eq(1).all()


def test_differences_are_signed_and_each_side_is_its_own_table():
    truth, probability, patients = random_case(9, n=300, patients=100, decimals=9)
    better = 0.5 * probability + 0.5 * truth * (probability > 0.4)
    forth = paired_differences(truth, probability, better, patients, resamples=99, **NAMED)
    back = paired_differences(truth, better, probability, patients, resamples=99, **NAMED)
    assert (forth["auroc_low"] > 0).all()
    assert forth["auroc_p"].tolist() == [pytest.approx(2 / 100)] * 6
    np.testing.assert_allclose(forth["auroc_low"], -back["auroc_high"], atol=1e-12)
    assert forth["ap_p"].equals(back["ap_p"])
    single = intervals(truth, better, patients, resamples=1, **NAMED)
    assert forth["auroc_b"].equals(single["auroc"])
    assert forth["ap_b"].equals(single["ap"])


def test_intervals_cover_the_truth_as_often_as_they_say():
    # 200 studies as labels: 100 patients, 4 images each that share the patient's truth and half of
    # the score's variance; the AUROC of two normals one deviation apart is known
    rng = np.random.default_rng(10)
    studies, images = 200, np.repeat(np.arange(100), 4)
    truth = (rng.random((100, studies)) < 0.4)[images]
    noise = rng.normal(size=(100, studies))[images] + rng.normal(size=(400, studies))
    probability = 1 / (1 + np.exp(-(truth + noise / np.sqrt(2))))
    known = NormalDist().cdf(np.sqrt(0.5))
    options = {"labels": [str(i) for i in range(studies)], "averages": {}, "resamples": 200}

    def coverage(patients, level):
        table = intervals(truth, probability, patients, level=level, **options)
        return ((table["auroc_low"] <= known) & (known <= table["auroc_high"])).mean()

    assert 0.85 < coverage(images, 0.9) < 0.95
    assert coverage(np.arange(400), 0.9) < 0.8  # images taken for independent


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ({"probability": np.nan}, "NaN"),
        ({"probability": np.inf}, "NaN, infinite"),
        ({"probability": 1.5}, "0…1"),
        ({"truth": 2}, "Truth must be 0 or 1"),
        ({"truth": np.nan}, "Truth must be 0 or 1"),
        ({"patients": None}, "Name the patient of each image. Received: None or NaN for 1"),
        ({"patients": np.nan}, "None or NaN for 1"),
        ({"patients": [1]}, "Patients must be numbers or strings. Received: unhashable"),
    ],
)
def test_bad_values_are_refused(spoil, says):
    (which, value), *_ = spoil.items()
    truth, probability, patients = (array.tolist() for array in random_case(11))
    if which == "patients":
        patients[3] = value
    else:
        {"truth": truth, "probability": probability}[which][3][2] = value
    with pytest.raises(DataError, match=says):
        intervals(truth, probability, patients, **NAMED)
    good = random_case(11)[1]
    for pair in ((probability, good), (good, probability)):
        with pytest.raises(DataError, match=says):
            paired_differences(truth, *pair, patients, **NAMED)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, p, w: (t[:5], p, w), r"Received: \(5, 4\) and \(60, 4\)"),
        (lambda t, p, w: (t[:, :3], p[:, :3], w), r"\(n_samples, 4\)"),
        (lambda t, p, w: (t[:0], p[:0], w[:0]), "no sample"),
        (lambda t, p, w: (t, p, w[:7]), "Give one patient per image. Received: 7 for 60"),
        (lambda t, p, w: (t, p, []), "Received: 0 for 60"),
        (lambda t, p, w: (t, p, [object() for _ in w]), "Patients must be numbers or strings"),
    ],
)
def test_wrong_shapes_and_patients_are_refused(change, says):
    with pytest.raises(DataError, match=says):
        intervals(*change(*random_case(12)), **NAMED)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"resamples": 0}, "Resamples must be 1 or more .* Received: 0"),
        ({"seed": -1}, "The seed must be 0 or more. Received: -1"),
        ({"level": 1.0}, "between 0 and 1 .* Received: 1.0"),
        ({"level": 95}, "between 0 and 1 .* Received: 95"),
        ({"level": float("nan")}, "Received: nan"),
        ({"averages": {"mine": [0, 4]}}, r'"mine" must be over columns 0 to 3. Received: \[0, 4\]'),
        ({"averages": {"mine": [-1]}}, r"Received: \[-1\]"),
    ],
)
def test_wrong_options_are_refused(option, says):
    truth, probability, patients = random_case(13)
    with pytest.raises(DataError, match=says):
        intervals(truth, probability, patients, **(NAMED | option))
    with pytest.raises(DataError, match=says):
        paired_differences(truth, probability, probability, patients, **(NAMED | option))


def test_a_label_of_four_patients_has_no_bounds_and_one_of_five_has():
    truth = np.zeros((40, 2), int)
    truth[:16, 0] = 1  # 16 images of 4 patients
    truth[:20, 1] = 1  # 20 images of 5
    probability = np.random.default_rng(0).random((40, 2))
    patients = np.arange(40) // 4
    options = {"labels": "ab", "averages": {"both": [0, 1]}}
    options["resampling"] = bootstrap.Resampling(50)
    table = bootstrap.intervals(truth, probability, patients, **options).set_index("label")
    assert table.loc["a", INTERVAL].isna().all()
    assert table.loc["a", ["auroc", "ap"]].notna().all()
    assert table.loc[["b", "both"], INTERVAL].notna().all(axis=None)
    other = bootstrap.paired_differences(truth, probability, 1 - probability, patients, **options)
    assert other["auroc_p"].isna().tolist() == [True, False, False]
