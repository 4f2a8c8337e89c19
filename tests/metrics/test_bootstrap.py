"""Intervals and paired differences against images truly repeated."""

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from helpers.bootstrap_cases import (
    AVERAGES,
    LABELS,
    NAMED,
    intervals,
    paired_differences,
    random_case,
    slow_bootstrap,
)

from cxr_keras.metrics import bootstrap

FEW = bootstrap.Resampling(50)
INTERVAL = ["auroc_low", "auroc_high", "ap_low", "ap_high"]


@pytest.mark.parametrize("decimals", [0, 1, 9])  # ties of many images, of some, and none
def test_intervals_against_images_truly_repeated(decimals):
    truth, probability, patients = random_case(decimals, n=30, patients=9, decimals=decimals)
    truth[:, 2] = patients == patients[0]  # one positive patient: some resamples have none
    probability[:, 3] = 0.5  # constant
    table = intervals(truth, probability, patients, resamples=25, seed=decimals, level=0.9, **NAMED)
    both = slow_bootstrap(truth, probability, patients, 25, decimals)
    assert np.isnan(both[0, 1:, 2]).any()
    assert table["label"].tolist() == [*LABELS, *AVERAGES]
    for values, measure in zip(both, ("auroc", "ap"), strict=True):
        low, high = np.nanpercentile(values[1:], [5, 95], axis=0)
        np.testing.assert_allclose(table[measure], values[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(table[f"{measure}_low"], low, rtol=0, atol=1e-12)
        np.testing.assert_allclose(table[f"{measure}_high"], high, rtol=0, atol=1e-12)


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


def test_blocks_change_nothing_and_progress_counts_them():
    # 20,000 images go block by block; copies of a patient's images leave the measures as they are
    truth, probability, _ = random_case(6, n=40)
    case = [truth, probability, probability**2, np.arange(40)]
    copies = [np.repeat(array, 500, axis=0) for array in case]
    for measure, names in ((intervals, (0, 1, 3)), (paired_differences, (0, 1, 2, 3))):
        whole, done = [], []
        expected = measure(*(case[i] for i in names), resamples=90, progress=whole.append, **NAMED)
        table = measure(*(copies[i] for i in names), resamples=90, progress=done.append, **NAMED)
        pd.testing.assert_frame_equal(table, expected, rtol=1e-9)
        assert whole == [90]
        assert len(done) > 1
        assert sum(done) == 90


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


def test_a_label_of_four_patients_has_no_bounds_and_one_of_five_has():
    truth = np.zeros((40, 2), int)
    truth[:16, 0] = 1  # 16 images of 4 patients
    truth[:20, 1] = 1  # 20 images of 5
    probability = np.random.default_rng(0).random((40, 2))
    patients = np.arange(40) // 4
    options = {"labels": "ab", "averages": {"both": [0, 1]}}
    options["resampling"] = FEW
    table = bootstrap.intervals(truth, probability, patients, **options).set_index("label")
    assert table.loc["a", INTERVAL].isna().all()
    assert table.loc["a", ["auroc", "ap"]].notna().all()
    assert table.loc[["b", "both"], INTERVAL].notna().all(axis=None)
    other = bootstrap.paired_differences(truth, probability, 1 - probability, patients, **options)
    assert other["auroc_p"].isna().tolist() == [True, False, False]


def test_a_label_that_four_patients_lack_has_no_bounds_and_one_that_five_lack_has():
    truth = np.ones((40, 2), int)
    truth[:16, 0] = 0  # 16 images of 4 patients
    truth[:20, 1] = 0  # 20 images of 5
    probability = np.random.default_rng(0).random((40, 2))
    table = bootstrap.intervals(
        truth, probability, np.arange(40) // 4, labels="ab", averages={}, resampling=FEW
    )
    assert table[INTERVAL].notna().all(axis=1).tolist() == [False, True]
