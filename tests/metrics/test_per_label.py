from functools import partial

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_keras.cli.tables import metrics_table
from cxr_keras.data.labels import FINDINGS, LABELS, NO_FINDING
from cxr_keras.errors import DataError
from cxr_keras.metrics import per_label
from cxr_keras.metrics.per_label import (
    average,
    average_rows,
    baselines,
    binary_cross_entropy,
    checked,
    prevalence_table,
)

AVERAGE_FINDINGS, AVERAGE_ALL = "average of 14 findings", "average of all 15"

label_table = partial(per_label.label_table, labels=LABELS, normal=NO_FINDING)


def random_case(seed, n=60):
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 15)) < rng.uniform(0.05, 0.6, 15)).astype(int)
    probability = np.round(rng.random((n, 15)), 1)  # ties
    return truth, probability


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_against_scikit_learn(seed, threshold):
    truth, probability = random_case(seed)
    table = label_table(truth, probability, thresholds=threshold).set_index("label")
    called = probability >= threshold
    for i, label in enumerate(LABELS):
        row = table.loc[label]
        t, c = truth[:, i], called[:, i]
        assert row["support"] == t.sum()
        assert row["accuracy"] == pytest.approx(reference.accuracy_score(t, c))
        for name in ("precision", "recall", "f1"):
            expected = getattr(reference, f"{name}_score")(t, c, zero_division=np.nan)
            assert row[name] == pytest.approx(expected, nan_ok=True)
        if 0 < t.sum() < len(t):
            pairs = [
                (p > q) + 0.5 * (p == q)
                for p in probability[t == 1, i]
                for q in probability[t == 0, i]
            ]
            assert row["auroc"] == pytest.approx(np.mean(pairs))
            assert row["auroc"] == pytest.approx(reference.roc_auc_score(t, probability[:, i]))
            expected = reference.average_precision_score(t, probability[:, i])
            assert row["ap"] == pytest.approx(expected)
        else:
            assert np.isnan(row["auroc"])
            assert np.isnan(row["ap"])


def test_a_toy_by_hand():
    truth = np.zeros((4, 15), int)
    probability = np.zeros((4, 15))
    truth[:, 0] = [1, 1, 0, 0]
    probability[:, 0] = [0.9, 0.4, 0.5, 0.1]
    table = label_table(truth, probability).set_index("label")
    row = table.loc["Atelectasis"]
    assert row.drop("loss").tolist() == [2, 4, 0.5, 0.5, 0.5, 0.5, 0.75, pytest.approx(5 / 6)]
    expected = -np.log([0.9, 0.4, 0.5, 0.9]).mean()
    assert row["loss"] == pytest.approx(expected)
    # 13 more findings: no support, never called
    assert table.loc["Edema", ["precision", "recall", "auroc"]].isna().all()
    assert np.isnan(table.loc["Edema", "f1"])
    assert table.loc["Edema", "accuracy"] == 1.0
    assert average(label_table(truth, probability), "recall") == 0.5
    counts = table.loc[f"{AVERAGE_FINDINGS}: labels averaged"]
    assert counts[["precision", "accuracy", "recall", "auroc"]].tolist() == [1, 14, 1, 1]


def test_averages_cover_the_14_findings_and_all_15():
    truth, probability = random_case(1, n=500)
    table = label_table(truth, probability).set_index("label")
    for measure in ("precision", "accuracy", "recall", "f1", "auroc"):
        column = table[measure]
        assert column[AVERAGE_FINDINGS] == pytest.approx(column[list(FINDINGS)].mean())
        assert column[AVERAGE_ALL] == pytest.approx(column[list(LABELS)].mean())


def test_a_data_set_whose_labels_are_all_findings_has_one_average():
    assert average_rows(["Mass", "Edema"], None) == {"average of 2 findings": [0, 1]}
    assert average_rows(["Mass", "Normal"], "Normal") == {
        "average of 1 findings": [0],
        "average of all 2": [0, 1],
    }
    assert average_rows(["Normal"], "Normal") == {"average of all 1": [0]}


def test_one_threshold_per_label():
    truth, probability = random_case(2)
    thresholds = np.linspace(0.1, 0.9, 15)
    table = label_table(truth, probability, thresholds=thresholds).set_index("label")
    for i, label in enumerate(LABELS):
        single = label_table(truth, probability, thresholds=float(thresholds[i]))
        assert table.loc[label, "recall"] == single.set_index("label").loc[label, "recall"]


def test_constant_scores_have_an_auroc_of_one_half():
    truth, _ = random_case(3)
    table = label_table(truth, np.full(truth.shape, 0.3)).set_index("label")
    assert table.loc[list(LABELS), "auroc"].dropna().eq(0.5).all()
    assert table.loc[AVERAGE_FINDINGS, "recall"] == 0.0


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda t, p: (t, np.where(p == p[0, 0], np.nan, p)), "NaN"),
        (lambda t, p: (t, p + 1), "0…1"),
        (lambda t, p: (t, p - 0.1), "0…1"),
        (lambda t, p: (t, p * np.inf), "NaN, infinite"),
        (lambda t, p: (t + 1, p), "Truth must be 0, 1 or NaN"),
        (lambda t, p: (t[:5], p), r"Received: \(5, 15\) and \(60, 15\)"),
        (lambda t, p: (t[:, :3], p[:, :3]), r"\(n_samples, 15\)"),
        (lambda t, p: (t[:0], p[:0]), "no sample"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_bad_arrays_are_refused(spoil, says):
    with pytest.raises(DataError, match=says):
        label_table(*spoil(*random_case(4)))


@pytest.mark.parametrize("flag", [0, 1])
def test_a_label_of_one_class_has_no_ranking(flag):
    table = per_label.label_table(
        np.full((3, 1), flag), [[0.1], [0.2], [0.7]], labels=["Mass"], normal=None
    )
    assert table.loc[0, ["auroc", "ap"]].isna().all()
    assert table.loc[0, "accuracy"] == pytest.approx([2, 1][flag] / 3)


def test_baselines_leave_the_label_of_no_finding_out():
    truth = [[1, 0], [0, 1], [0, 1], [0, 1]]
    table = baselines(truth, labels=["Mass", "Normal"], normal="Normal", base_rates=[0.25, 0.75])
    assert table["label"].tolist() == ['baseline: always "no"', "baseline: base rates"]
    assert table.index.tolist() == [0, 1]
    assert table["accuracy"].tolist() == [0.75, 0.75]
    entropy = -(np.log(0.25) + 3 * np.log(0.75)) / 4
    assert table["loss"].tolist() == pytest.approx([-np.log(1e-7) / 4, entropy], rel=1e-6)
    alone = baselines(truth, labels=["Mass", "Normal"], normal="Normal")
    assert alone["label"].tolist() == ['baseline: always "no"']


def test_the_prevalence_of_labels_known_of_few_images():
    table = prevalence_table([[1, None, 0], [0, 1, None], [1, None, None]], labels=["a", "b", "c"])
    columns = ["label", "support", "known", "prevalence", "training_prevalence"]
    assert list(table.columns) == columns
    assert table["prevalence"].tolist() == pytest.approx([2 / 3, 1, 0])
    assert table["training_prevalence"].isna().all()


def test_probabilities_are_measured_in_double_precision():
    given = checked([[1]], np.array([[0.1]], "float32"), 1)
    assert given.probability.dtype == np.float64


def test_binary_cross_entropy_by_hand():
    assert binary_cross_entropy([[1, 0]], [[0.5, 0.25]]) == pytest.approx(
        (np.log(2) - np.log(0.75)) / 2
    )
    assert binary_cross_entropy([[1]], [[0.0]]) == pytest.approx(-np.log(1e-7))
    assert binary_cross_entropy([[0]], [[1.0]]) == pytest.approx(-np.log(1e-7))


def test_the_printed_table_explains_its_dashes():
    truth, probability = random_case(5)
    probability[:, 3] = 0.0
    text = metrics_table(label_table(truth, probability))
    edema = next(line for line in text.splitlines() if line.startswith("Edema"))
    assert "–" in edema
    assert "Of the 14 labels the first average covers: precision 13." in text
