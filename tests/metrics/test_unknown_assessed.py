"""The bootstrap, and everything together, where the truth of some labels is unknown."""

import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.bootstrap_cases import (
    at_a_half,
    intervals,
    paired_differences,
    scikit_learn,
    slow_bootstrap,
)
from helpers.unknown_cases import LABELS, random_case, without_unknown

from cxr_keras.metrics import bootstrap
from cxr_keras.metrics.assessment import assess_arrays
from cxr_keras.metrics.per_label import DEFINED_SUFFIX, average_rows
from cxr_keras.metrics.weighted import auroc_and_ap, rank_images

AVERAGES = {"first three": [0, 1, 2], "all": [0, 1, 2, 3, 4]}
NAMED = {"labels": LABELS, "averages": AVERAGES}
BOUNDS = ["auroc_low", "auroc_high", "ap_low", "ap_high"]
FEW = bootstrap.Resampling(12, seed=3)


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def of_known(measures, number):
    """`measures` of one label without its unknown images, NaN where none is left."""

    def measured(truth, score):
        flags, kept = without_unknown(truth, score)
        return measures(flags, kept) if len(flags) else (np.nan,) * number

    return measured


RANKED, AT_A_HALF = of_known(scikit_learn, 2), of_known(at_a_half, 3)


def test_intervals_against_images_truly_repeated():
    truth, probability, patients = random_case(0, n=40, patients=12)
    options = {"predicted": probability >= 0.5, "resamples": 9, "seed": 1} | NAMED
    table = intervals(truth, probability, patients, **options)
    case = (truth, probability, patients, 9, 1, AVERAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's of the reference, where nothing is known
        found = [*slow_bootstrap(*case, RANKED), *slow_bootstrap(*case, AT_A_HALF)]
        bounds = [np.nanpercentile(values[1:], [2.5, 97.5], axis=0) for values in found]
    assert np.isnan(found[0][0]).tolist() == [False, False, False, True, True, False, False]
    names = [*bootstrap.MEASURES, *bootstrap.AT_THRESHOLD]
    for measure, values, (low, high) in zip(names, found, bounds, strict=True):
        if measure in bootstrap.AT_THRESHOLD:
            low, high = np.where(low < high, (low, high), np.nan)
        # min_patients=1 leaves the bounds of a label without a positive undefined
        low[LABELS.index("single")] = high[LABELS.index("single")] = np.nan
        np.testing.assert_allclose(table[measure], values[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(table[f"{measure}_low"], low, rtol=0, atol=1e-12)
        np.testing.assert_allclose(table[f"{measure}_high"], high, rtol=0, atol=1e-12)


def test_paired_differences_against_images_truly_repeated():
    truth, one, patients = random_case(2, n=40, patients=12)
    other = np.round(0.8 * one + 0.2 * np.nan_to_num(truth), 2)
    table = paired_differences(truth, one, other, patients, resamples=9, seed=5, **NAMED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after = (
            slow_bootstrap(truth, p, patients, 9, 5, AVERAGES, RANKED) for p in (one, other)
        )
        bounds = np.nanpercentile((after - before)[:, 1:], [2.5, 97.5], axis=1)
    for i, measure in enumerate(bootstrap.MEASURES):
        low, high = bounds[:, i]
        for name, values in (("a", before[i, 0]), ("b", after[i, 0]), ("low", low), ("high", high)):
            np.testing.assert_allclose(table[f"{measure}_{name}"], values, rtol=0, atol=1e-12)
        assert table[f"{measure}_p"].isna().tolist() == table[f"{measure}_a"].isna().tolist()


def test_a_rare_label_is_one_that_few_patients_are_known_to_have_or_to_lack():
    probability = np.random.default_rng(0).random((40, 3))
    truth = np.repeat([[1.0], [0.0]], 20, axis=0) * np.ones(3)
    truth[4:20, 0] = np.nan  # four patients are known to have it
    truth[24:, 1] = np.nan  # four are known to lack it
    truth[5:20, 2] = truth[25:, 2] = np.nan  # five of each
    arrays = {"labels": "abc", "averages": {}}
    table = bootstrap.intervals(truth, probability, range(40), **arrays)
    assert table[BOUNDS].notna().all(axis=1).tolist() == [False, False, True]
    assert table["auroc"].notna().all()
    other = bootstrap.paired_differences(truth, probability, 1 - probability, range(40), **arrays)
    assert other["auroc_p"].isna().tolist() == [True, True, False]


def test_precision_counts_the_patients_of_which_the_label_is_known():
    truth, probability, _ = random_case(1, n=200)
    known = np.flatnonzero(~np.isnan(truth[:, 1]))
    unknown = np.flatnonzero(np.isnan(truth[:, 1]))
    for number, bounded in ((4, False), (5, True)):
        predicted = np.zeros(truth.shape, bool)
        chosen = known[truth[known, 1] == 1][: number - 1]
        predicted[[*chosen, known[truth[known, 1] == 0][0], *unknown[:9]], 1] = True
        table = bootstrap.intervals(truth, probability, range(200), **NAMED, predicted=predicted)
        row = table.set_index("label").loc["part"]
        assert row["precision"] == pytest.approx((number - 1) / number)
        assert row[["precision_low", "precision_high"]].notna().all() == bounded


def test_patients_who_have_no_image_of_a_ranking():
    ranking = rank_images(np.array([True, False]), np.array([0.9, 0.1]), np.array([1, 2]), 4)
    assert auroc_and_ap(ranking, np.array([0.0, 1, 1, 5, 5])[:, None]).tolist() == [[1], [1]]
    empty = np.zeros(0)
    ranking = rank_images(empty.astype(bool), empty, empty.astype(int), 4)
    assert np.isnan(auroc_and_ap(ranking, np.ones((5, 2)))).all()


def assessed(truth, probability, patients, resampling=FEW, **options):
    groups = pd.DataFrame({"view": np.where(np.arange(len(truth)) % 2, "PA", "AP")})
    options = {"normal": "whole", "thresholds": [0.5] * 5, "groups": groups} | options
    return assess_arrays(
        truth, probability, labels=LABELS, patients=patients, resampling=resampling, **options
    )


def test_a_label_known_nowhere_is_undefined_and_moves_no_average():
    found = assessed(*random_case(7, n=200))
    table = found.metrics.set_index("label")
    row = table.loc["nowhere"].drop(["support", "known", "threshold"])
    assert row.isna().all()
    assert (table.loc["nowhere", "support"], table.loc["nowhere", "known"]) == (0, 0)
    for name, places in average_rows(LABELS, "whole").items():
        inside = table.loc[[LABELS[i] for i in places]]
        for measure in ("brier", "ece", "loss", "auroc", "recall"):
            assert table.loc[name, measure] == pytest.approx(inside[measure].mean())


def test_nothing_known_at_all():
    truth, probability, patients = random_case(7)
    found = assessed(truth * np.nan, probability, patients)
    measured = found.metrics.drop(columns=["label", "support", "known", "threshold"])
    assert measured[~found.metrics["label"].str.endswith(DEFINED_SUFFIX)].isna().all(axis=None)
    assert found.example_based["value"].isna().all()
    assert found.reliability.empty
    assert np.isnan(found.loss)
    assert found.cooccurrence.eq(0).all(axis=None)


def test_images_of_which_nothing_is_known_change_nothing_but_their_number():
    """And what is predicted for them counts where only predictions count."""
    truth, probability, patients = random_case(8, n=80)
    before = vars(assessed(truth, probability, patients))
    more = [np.concatenate([array, array]) for array in (truth, probability, patients)]
    more[0][80:] = np.nan
    after = vars(assessed(*more))
    for name in ("metrics", "example_based", "reliability"):
        pd.testing.assert_frame_equal(after[name], before[name], check_exact=True)
    subgroups = [part.drop(columns="images") for part in (after["subgroups"], before["subgroups"])]
    pd.testing.assert_frame_equal(*subgroups, check_exact=True)
    assert after["cooccurrence"].equals(before["cooccurrence"])
    assert after["loss"] == before["loss"]
    for name in ("images", "contradictions", "silent"):
        assert after[name] == 2 * before[name]


def test_subgroups_are_the_tables_of_their_images():
    truth, probability, patients = random_case(9, n=160)
    table = assessed(truth, probability, patients).subgroups.set_index(["value", "label"])
    for value, start in (("AP", 0), ("PA", 1)):
        inside = [array[start::2] for array in (truth, probability, patients)]
        expected = assessed(*inside).metrics.set_index("label")
        rows = table.loc[value]
        names = ["support", "known", "recall", "f1", "auroc", "ap_low", "recall_high"]
        pd.testing.assert_frame_equal(rows[names], expected.loc[rows.index, names])
        assert rows["images"].eq(80).all()
        assert rows.loc["part", "known"] < 80


def test_truth_that_is_known_everywhere_may_be_of_any_kind():
    truth, probability, patients = random_case(10)
    truth = np.nan_to_num(truth)
    tables = [
        assessed(truth.astype(kind), probability, patients).metrics for kind in (float, int, bool)
    ]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    pd.testing.assert_frame_equal(tables[0], tables[2], check_exact=True)
    assert tables[0]["known"].iloc[:5].eq(90).all()
