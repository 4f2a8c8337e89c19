"""That an assessment holds what its parts measure, each of the right arrays."""

import numpy as np
import pandas as pd
import pytest

from cxr_keras.metrics import bootstrap, calibration, example_based, interval_table, per_label
from cxr_keras.metrics.assessment import assess_arrays

LABELS = ["Mass", "Normal", "Edema"]
THRESHOLDS = [0.3, 0.5, 0.7]
AVERAGES = {"average of 2 findings": [0, 2], "average of all 3": [0, 1, 2]}
FEW = bootstrap.Resampling(15, seed=2)
NAMED = {"labels": LABELS, "normal": "Normal", "thresholds": THRESHOLDS}


@pytest.fixture
def case():
    rng = np.random.default_rng(1)
    truth = (rng.random((60, 3)) < [0.3, 0.5, 0.4]).astype(float)
    return truth, np.round(rng.random((60, 3)), 2), np.arange(60) // 2


def assessed(case, **options):
    truth, probability, patients = case
    groups = pd.DataFrame({"sex": np.tile(["F", "F", "M", "M"], 15)})
    options = NAMED | {"groups": groups, "patients": patients, "resampling": FEW} | options
    return assess_arrays(truth, probability, **options)


def test_the_metrics_have_bounds_calibration_thresholds_and_baselines(case):
    truth, probability, patients = case
    rates = [0.25, 0.6, 0.1]
    table = assessed(case, base_rates=rates).metrics
    floor = per_label.baselines(truth, labels=LABELS, normal="Normal", base_rates=rates)
    rows = table.tail(2)[list(floor.columns)].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, floor)
    assert table.index.tolist() == list(range(3 + 2 * 2 + 2))
    table = table.set_index("label")
    squares = ((probability - truth) ** 2).mean(axis=0)
    error = calibration.expected_calibration_error(truth, probability)
    for name, values in (("brier", squares), ("ece", error)):
        expected = dict(zip(LABELS, values, strict=True))
        expected |= {row: values[places].mean() for row, places in AVERAGES.items()}
        assert table[name].dropna().to_dict() == pytest.approx(expected)
    assert table["threshold"].dropna().to_dict() == dict(zip(LABELS, THRESHOLDS, strict=True))
    expected = bootstrap.intervals(
        truth,
        probability,
        patients,
        labels=LABELS,
        averages=AVERAGES,
        predicted=probability >= THRESHOLDS,
        resampling=FEW,
    ).set_index("label")
    rows = table.loc[expected.index, expected.columns]
    pd.testing.assert_frame_equal(rows, expected)
    bounds = [name for name in expected if name.endswith(("_low", "_high"))]
    assert table[bounds].drop(index=expected.index).isna().all(axis=None)


def test_everything_else_is_measured_at_the_thresholds_too(case):
    truth, probability, patients = case
    found = assessed(case)
    predicted = probability >= THRESHOLDS
    assert found.labels == tuple(LABELS)
    assert found.normal == "Normal"
    assert found.thresholds == {"Mass": 0.3, "Normal": 0.5, "Edema": 0.7}
    assert found.images == 60
    finding = predicted[:, 0] | predicted[:, 2]
    assert found.contradictions == (predicted[:, 1] & finding).sum()
    assert found.silent == (~predicted[:, 1] & ~finding).sum()
    assert found.loss == pytest.approx(per_label.binary_cross_entropy(truth, probability))
    both = predicted[:, 0] & (truth[:, 2] == 1)
    assert found.cooccurrence.loc["Edema", "Mass"] == both.sum()
    reliability = calibration.reliability_table(truth, probability, labels=LABELS)
    pd.testing.assert_frame_equal(found.reliability, reliability)
    women = np.arange(60) % 4 < 2
    own = interval_table.interval_table(
        truth[women], probability[women], patients[women], **NAMED, resampling=FEW
    )
    rows = found.subgroups[found.subgroups["value"] == "F"].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows[list(own.columns)], own)
    assert set(rows["patients"]) == {15}


def test_measures_over_images_stand_beside_those_of_always_no(case):
    truth, probability, _ = case
    found = assessed(case).example_based
    assert list(found.columns) == ["measure", "value", 'always "no"', "meaning"]
    own = example_based.example_based_table(truth, probability >= THRESHOLDS, probability)
    pd.testing.assert_frame_equal(found.drop(columns='always "no"'), own)
    floor = found.set_index("measure")['always "no"']
    assert floor["Hamming loss"] == pytest.approx(truth.mean())
    assert floor["exact match ratio"] == pytest.approx((truth.sum(axis=1) == 0).mean())
    assert floor["label-set size bias"] == pytest.approx(-truth.sum(axis=1).mean())
    pairs = (truth.sum(axis=1) > 0) & (truth.sum(axis=1) < 3)
    assert floor["label ranking loss"] == pytest.approx(pairs.mean())  # all are tied


def test_without_resampling_there_are_no_bounds(case):
    found = assessed(case, resampling=None)
    for table in (found.metrics, found.subgroups):
        assert not [name for name in table if name.endswith(("_low", "_high"))]
    assert found.metrics["auroc"].notna().all()


def test_a_normal_label_that_is_not_measured_is_none(case):
    truth, probability, patients = case
    part = (truth[:, [0, 2]], probability[:, [0, 2]], patients)
    found = assessed(part, labels=["Mass", "Edema"], thresholds=[0.3, 0.7])
    assert found.normal is None
    assert found.contradictions == 0
    averages = [name for name in found.metrics["label"] if name.startswith("average of ")]
    assert averages == ["average of 2 findings", "average of 2 findings: labels averaged"]
