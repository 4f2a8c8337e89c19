"""Intervals of precision, recall and F1, and where there are none."""

import numpy as np
import pandas as pd
import pytest
from helpers.bootstrap_cases import NAMED, at_a_half, intervals, random_case, slow_bootstrap

from cxr_keras.errors import DataError
from cxr_keras.metrics import bootstrap

INTERVAL = ["auroc_low", "auroc_high", "ap_low", "ap_high"]


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


def test_an_average_of_one_label_is_that_label_whatever_resamples_leave_undefined():
    truth, probability, patients = random_case(3, n=30, patients=9)
    truth[:, 1] = patients == patients[0]
    probability[patients != patients[1], 2] = 0.1
    options = {"labels": "abcd", "averages": {"of b": [1], "of c": [2]}, "resamples": 25}
    table = intervals(truth, probability, patients, predicted=probability >= 0.5, **options)
    rows = table.set_index("label")
    np.testing.assert_array_equal(rows.loc[["of b", "of c"]], rows.loc[["b", "c"]])


@pytest.mark.parametrize(
    "wrong",
    [np.full((60, 4), 0.5), np.eye(60, 4) / 2, np.ones((60, 3)), np.ones(60)],
)
def test_predicted_labels_that_are_none_are_refused(wrong):
    with pytest.raises(DataError, match=r"Predicted labels must be 0 or 1, of the shape \(60, 4\)"):
        intervals(*random_case(0), predicted=wrong, **NAMED)
