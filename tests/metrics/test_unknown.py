"""Where the truth of a label is unknown, each label is measured without these images."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as reference
from helpers.bootstrap_cases import at_a_half, scikit_learn
from helpers.unknown_cases import LABELS, NOWHERE, random_case, without_unknown
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_keras.errors import DataError
from cxr_keras.metrics.calibration import (
    ALL_LABELS,
    brier_score,
    expected_calibration_error,
    fit_scaling,
    reliability_table,
)
from cxr_keras.metrics.example_based import cooccurrence, example_based_table
from cxr_keras.metrics.per_label import (
    DEFINED_SUFFIX,
    MEASURES,
    average_rows,
    baselines,
    binary_cross_entropy,
    checked,
    label_table,
    prevalence_table,
)
from cxr_keras.metrics.thresholds import choose_thresholds

SEEDS = given(st.integers(0, 10_000))
LIMITS = (0.5, 0.3, 0.4, 0.5, 0.6)
KNOWN = [i for i in range(len(LABELS)) if i != NOWHERE]


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def columns(truth, probability):
    """Label → the known truth and its probabilities, each (n, 1)."""
    pairs = zip(LABELS, truth.T, probability.T, strict=True)
    return {
        label: tuple(part[:, None] for part in without_unknown(*pair)) for label, *pair in pairs
    }


def losses(truth, score):
    score = np.clip(score, 1e-7, 1 - 1e-7)
    return -np.log(np.where(truth == 1, score, 1 - score))


@settings(max_examples=4, deadline=None)
@SEEDS
def test_the_table_against_scikit_learn(seed):
    truth, probability, _ = random_case(seed)
    table = label_table(truth, probability, labels=LABELS, thresholds=LIMITS).set_index("label")
    assert list(table.columns[:2]) == ["support", "known"]
    for label, limit, *pair in zip(LABELS, LIMITS, truth.T, probability.T, strict=True):
        row = table.loc[label]
        flags, score = without_unknown(*pair)
        assert (row["support"], row["known"]) == (flags.sum(), len(flags))
        if not len(flags):
            assert row[list(MEASURES)].isna().all()
            continue
        expected = dict(zip(("auroc", "ap"), scikit_learn(flags, score), strict=True))
        at_limit = at_a_half(flags, (score >= limit).astype(float))
        expected |= dict(zip(("precision", "recall", "f1"), at_limit, strict=True))
        expected["accuracy"] = reference.accuracy_score(flags, score >= limit)
        expected["loss"] = losses(flags, score).mean()
        assert row[list(expected)].to_dict() == pytest.approx(expected, nan_ok=True)


def test_average_rows_say_of_how_many_images_and_labels_something_is_known():
    truth, probability, _ = random_case(1)
    table = label_table(truth, probability, labels=LABELS, normal="whole").set_index("label")
    for name, places in average_rows(LABELS, "whole").items():
        part, row = truth[:, places], table.loc[name]
        assert row["support"] == np.nansum(part)
        assert row["known"] == sum(not all(np.isnan(image)) for image in part) > 0
        inside = table.loc[[LABELS[i] for i in places]]
        assert row["loss"] == pytest.approx(inside["loss"].mean())
        counts = table.loc[name + DEFINED_SUFFIX]
        assert (counts["support"], counts["known"]) == (len(places), len(places) - 1)
        assert (counts["accuracy"], counts["auroc"]) == (len(places) - 1, len(places) - 2)
    assert table.loc["average of 4 findings", "known"] < table.loc["average of all 5", "known"]


def test_what_rests_on_the_known_labels_alone():
    truth, probability, _ = random_case(2)
    flags, score = without_unknown(truth.ravel(), probability.ravel())
    assert binary_cross_entropy(truth, probability) == pytest.approx(losses(flags, score).mean())
    assert np.isnan(binary_cross_entropy(truth * np.nan, probability))
    table = prevalence_table(truth, labels=LABELS, training={"part": 0.25}).set_index("label")
    for label, (own, _) in columns(truth, probability).items():
        share = own.mean() if len(own) else np.nan
        expected = [own.sum(), len(own), share, 0.25 if label == "part" else np.nan]
        assert table.loc[label].tolist() == pytest.approx(expected, nan_ok=True)


def test_baselines_answer_what_is_known():
    truth, probability, _ = random_case(3)
    rates = np.nanmean(truth[:, KNOWN], axis=0)
    rates = np.insert(rates, NOWHERE, np.nan)  # known of no training image, too
    table = baselines(truth, labels=LABELS, base_rates=rates).set_index("label")
    own = [own for own, _ in columns(truth, probability).values() if len(own)]
    assert table["accuracy"].iloc[0] == pytest.approx(np.mean([1 - o.mean() for o in own]))
    constant = [losses(o, rates[i]).mean() for o, i in zip(own, KNOWN, strict=True)]
    assert table["loss"].iloc[1] == pytest.approx(np.mean(constant))
    assert table["known"].tolist() == [90, 90]


def test_a_label_without_a_base_rate_is_left_out_of_their_baseline():
    table = baselines([[1, 0], [0, 1]], labels="ab", base_rates=[0.25, np.nan])
    assert table["support"].tolist() == [2, 1]
    assert table["loss"].iloc[1] == pytest.approx(-(np.log(0.25) + np.log(0.75)) / 2)


@settings(max_examples=8, deadline=None)
@SEEDS
def test_thresholds_are_those_of_each_label_alone(seed):
    truth, probability, _ = random_case(seed)
    for options in ({}, {"sensitivity": 0.8}, {"prevalence": np.full(5, 0.1)}):
        found, notices = choose_thresholds(truth, probability, labels=LABELS, **options)
        apart = {name: options[name][:1] for name in options if name == "prevalence"}
        for threshold, (label, pair) in zip(
            found, columns(truth, probability).items(), strict=True
        ):
            if label == "nowhere":
                assert threshold == 0.5
                continue
            assert (threshold,) == choose_thresholds(*pair, labels=[label], **(options | apart))[0]
        assert "nowhere 0, single 0." in notices[0]


@pytest.mark.parametrize("prevalence", [0.05, 0.3, 0.6])
def test_a_threshold_for_a_prevalence_weighs_the_known_negatives(prevalence):
    rng = np.random.default_rng(7)
    truth = np.repeat([1.0, 0.0], [100, 300])
    score = np.clip(rng.normal(0.3 + 0.2 * truth, 0.15), 0, 1)
    truth[200:] = np.nan
    options = {"labels": "a", "prevalence": [prevalence]}
    found = choose_thresholds(truth[:, None], score[:, None], **options)
    assert found == choose_thresholds(truth[:200, None], score[:200, None], **options)


@settings(max_examples=8, deadline=None)
@SEEDS
def test_calibration_measures_are_those_of_each_label_alone(seed):
    truth, probability, _ = random_case(seed)
    brier = brier_score(truth, probability)
    error = expected_calibration_error(truth, probability)
    table = reliability_table(truth, probability, labels=LABELS)
    for i, (label, pair) in enumerate(columns(truth, probability).items()):
        rows = table[table["label"] == label].reset_index(drop=True)
        if label == "nowhere":
            assert np.isnan([brier[i], error[i]]).all()
            assert rows.empty
            continue
        assert brier[i] == pytest.approx(((pair[0] - pair[1]) ** 2).mean())
        assert error[i] == pytest.approx(expected_calibration_error(*pair)[0])
        expected = reliability_table(*pair, labels=[label])
        pd.testing.assert_frame_equal(rows, expected[expected["label"] == label])
    pooled = table[table["label"] == ALL_LABELS].reset_index(drop=True)
    whole = [part[:, None] for part in without_unknown(truth.ravel(), probability.ravel())]
    expected = reliability_table(*whole, labels=[ALL_LABELS])
    pd.testing.assert_frame_equal(pooled, expected.iloc[: len(pooled)])


def test_scalings_are_fitted_on_what_is_known():
    truth, probability, _ = random_case(4, n=150)
    platt, notices = fit_scaling(truth, probability, labels=LABELS, method="platt")
    for i, (label, pair) in enumerate(columns(truth, probability).items()):
        expected = (1.0, 0.0)
        if label != "nowhere":
            alone, _ = fit_scaling(*pair, labels=[label], method="platt")
            expected = alone.slope + alone.shift
        assert (platt.slope[i], platt.shift[i]) == pytest.approx(expected)
    assert platt.slope[1] != 1
    assert "their positives: nowhere 0, single 0." in notices[0]
    warm, _ = fit_scaling(truth, probability, labels=LABELS, method="temperature")
    whole = [part[:, None] for part in without_unknown(truth.ravel(), probability.ravel())]
    alone, _ = fit_scaling(*whole, labels=["all"], method="temperature")
    assert warm.slope == alone.slope * 5 != (1.0,) * 5
    nothing, notices = fit_scaling(truth * np.nan, probability, labels=LABELS, method="temperature")
    assert nothing.slope == (1.0,) * 5
    assert notices[0].endswith("their positives: all labels 0.")


def slow_image(truth, called, score):
    """The measures of one image on the labels known of it, and its answers right and wrong."""
    known = [i for i in range(len(truth)) if not np.isnan(truth[i])]
    true = {i for i in known if truth[i] == 1}
    said = {i for i in known if called[i]}
    pairs = [score[j] >= score[i] for i in true for j in set(known) - true]
    return {
        "exact match ratio": true == said,
        "Jaccard index": len(true & said) / len(true | said) if true | said else 1.0,
        "label ranking loss": np.mean(pairs) if pairs else 0.0,
        "label-set size error": abs(len(said) - len(true)),
        "label-set size bias": len(said) - len(true),
        "answers": len(known),
        "wrong": len(true ^ said),
    }


@settings(max_examples=8, deadline=None)
@SEEDS
def test_images_are_measured_on_the_labels_known_of_them(seed):
    truth, probability, _ = random_case(seed)
    truth[::7] = np.nan
    called = probability >= 0.5
    found = example_based_table(truth, called, probability).set_index("measure")["value"]
    images = list(zip(truth, called, probability, strict=True))
    slow = pd.DataFrame([slow_image(*i) for i in images if not np.isnan(i[0]).all()])
    expected = slow.mean().drop(["answers", "wrong"]).to_dict()
    expected["Hamming loss"] = slow["wrong"].sum() / slow["answers"].sum()
    assert found.to_dict() == pytest.approx(expected)
    assert len(slow) < len(images)


def test_nothing_known_of_any_image():
    truth, probability, _ = random_case(5)
    table = example_based_table(truth * np.nan, probability >= 0.5, probability)
    assert table["value"].isna().all()
    table = label_table(truth * np.nan, probability, labels=LABELS).set_index("label")
    assert table["known"].eq(0).all()
    assert table.loc["average of 5 findings", list(MEASURES)].isna().all()


@settings(max_examples=8, deadline=None)
@SEEDS
def test_cooccurrence_counts_known_truth(seed):
    truth, probability, _ = random_case(seed)
    called = probability >= 0.6
    table = cooccurrence(truth, called, LABELS)
    for row, a in zip(LABELS, truth.T, strict=True):
        assert table.loc[row, "nothing called"] == (~called[a == 1].any(axis=1)).sum()
        for column, b in zip(LABELS, called.T, strict=True):
            assert table.loc[row, column] == sum(
                t == 1 and p == 1 for t, p in zip(a, b, strict=True)
            )
    assert "no label" not in table.index  # of each image something is unknown


def test_an_image_of_which_something_is_unknown_is_not_known_to_have_no_label():
    table = cooccurrence([[0, np.nan], [0, 0], [1, np.nan]], [[1, 0], [1, 0], [0, 1]], "ab")
    assert table.loc["no label"].tolist() == [1, 0, 0]
    assert table.loc["a"].tolist() == [0, 1, 0]


def test_what_checked_returns():
    given = checked([[1, np.nan], [None, 0]], [[0.1, 0.2], [0.3, 0.4]], 2)
    assert given.truth.tolist() == [[True, False], [False, False]]
    assert given.known.tolist() == [[True, False], [False, True]]
    assert given.truth.dtype == given.known.dtype == bool
    assert given.probability.tolist() == [[0.1, 0.2], [0.3, 0.4]]


@pytest.mark.parametrize("value", [np.inf, -np.inf, -1, 0.5, 2])
def test_other_values_are_refused(value):
    truth, probability, _ = random_case(6)
    truth[3, 1] = value
    says = r"Truth must be 0, 1 or NaN \(unknown\) everywhere; it holds other values"
    for measure in (
        lambda: label_table(truth, probability, labels=LABELS),
        lambda: cooccurrence(truth, probability >= 0.5, LABELS),
        lambda: prevalence_table(truth, labels=LABELS),
    ):
        with pytest.raises(DataError, match=says):
            measure()
