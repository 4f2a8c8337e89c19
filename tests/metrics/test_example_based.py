import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_keras.data.labels import NO_FINDING
from cxr_keras.errors import DataError
from cxr_keras.metrics.example_based import (
    contradictions,
    cooccurrence,
    example_based_table,
    silent,
)

NAMES = ["Edema", NO_FINDING, "Mass"]


def random_case(seed, n=50, k=5):
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, k)) < rng.choice([0.0, 0.2, 0.5, 1.0], (n, 1))).astype(int)
    probability = np.round(rng.random((n, k)), 1)  # ties
    return truth, (probability >= 0.6).astype(int), probability


def values(truth, predicted, probability):
    return example_based_table(truth, predicted, probability).set_index("measure")["value"]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 15))
def test_against_scikit_learn_and_plain_loops(seed, k):
    truth, predicted, probability = random_case(seed, k=k)
    table = example_based_table(truth, predicted, probability)
    sizes = [int(c.sum() - t.sum()) for t, c in zip(truth, predicted, strict=True)]
    expected = {
        "exact match ratio": reference.accuracy_score(truth, predicted),
        "Hamming loss": reference.hamming_loss(truth, predicted),
        "Jaccard index": reference.jaccard_score(
            truth, predicted, average="samples", zero_division=1.0
        ),
        "label ranking loss": reference.label_ranking_loss(truth, probability),
        "label-set size error": np.mean([abs(size) for size in sizes]),
        "label-set size bias": np.mean(sizes),
    }
    assert dict(zip(table["measure"], table["value"], strict=True)) == pytest.approx(expected)
    assert list(table.columns) == ["measure", "value", "meaning"]
    assert table["meaning"].str.len().min() > 20


def test_a_toy_by_hand():
    truth = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]]
    predicted = [[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]]
    probability = [[0.9, 0.1, 0.1], [0.2, 0.8, 0.5], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]]
    found = values(truth, predicted, probability)
    assert found.tolist() == pytest.approx(
        [2 / 4, 5 / 12, (1 + 1 / 3 + 1 + 0) / 4, (1 / 2) / 4, 3 / 4, -3 / 4]
    )


def test_tied_scores_count_as_wrong_order():
    assert values([[1, 0]], [[1, 0]], [[0.5, 0.5]])["label ranking loss"] == 1.0
    assert values([[1, 0]], [[1, 0]], [[0.6, 0.5]])["label ranking loss"] == 0.0


def test_images_without_or_with_every_label():
    nothing, everything = np.zeros((3, 2)), np.ones((3, 2))
    silent_answer = values(nothing, nothing, nothing)
    assert silent_answer.tolist() == [1, 0, 1, 0, 0, 0]
    assert values(everything, nothing, nothing).tolist() == [0, 1, 0, 0, 2, -2]
    assert values(nothing, everything, everything).tolist() == [0, 1, 0, 0, 2, 2]


def test_one_label_alone():
    found = values([[1], [0]], [[1], [1]], [[0.9], [0.8]])
    assert found.tolist() == [0.5, 0.5, 0.5, 0.0, 0.5, 0.5]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_cooccurrence_against_a_slow_loop(seed):
    truth, predicted, _ = random_case(seed, n=30, k=3)
    table = cooccurrence(truth, predicted, NAMES)
    assert list(table.columns) == [*NAMES, "nothing called"]
    assert table.index.name == "truth"
    assert ("no label" in table.index) == bool((truth.sum(axis=1) == 0).any())
    for row in table.index:
        for column in table.columns:
            count = 0
            for t, c in zip(truth, predicted, strict=True):
                has = not t.any() if row == "no label" else t[NAMES.index(row)]
                is_predicted = not c.any() if column == "nothing called" else c[NAMES.index(column)]
                count += bool(has and is_predicted)
            assert table.loc[row, column] == count


def test_cooccurrence_by_hand():
    table = cooccurrence([[1, 0], [1, 1], [0, 1]], [[1, 0], [1, 1], [0, 0]], ["Edema", "Mass"])
    assert table.to_numpy().tolist() == [[2, 1, 0], [1, 1, 1]]
    assert list(table.index) == ["Edema", "Mass"]
    table = cooccurrence([[0, 0]], [[0, 1]], ["Edema", "Mass"])
    assert table.loc["no label"].tolist() == [0, 1, 0]


def test_no_finding_beside_a_finding():
    predicted = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 1], [1, 0, 1], [0, 0, 0]])
    assert contradictions(predicted, NAMES, NO_FINDING) == 2
    assert silent(predicted) == 1


def test_labels_without_no_finding_cannot_contradict():
    predicted = np.ones((4, 2), bool)
    assert contradictions(predicted, ["Edema", "Mass"], NO_FINDING) == 0
    assert contradictions(predicted[:, :1], [NO_FINDING], NO_FINDING) == 0


def test_no_image_is_no_contradiction():
    assert contradictions(np.zeros((0, 3)), NAMES, NO_FINDING) == silent(np.zeros((0, 3))) == 0


def test_bad_arrays_are_refused():
    truth, predicted, probability = random_case(1, n=4, k=3)
    with pytest.raises(DataError, match=r"Truth and probabilities .* \(4, 3\) and \(4, 2\)"):
        example_based_table(truth, predicted, probability[:, :2])
    with pytest.raises(DataError) as caught:
        example_based_table(truth, predicted[:3], probability)
    assert str(caught.value) == "Predicted labels must have the shape (4, 3). Received: (3, 3)."
    with pytest.raises(DataError, match="Predicted labels must be 0 or 1 everywhere"):
        example_based_table(truth, probability, probability)
    with pytest.raises(DataError, match="no sample"):
        example_based_table(truth[:0], predicted[:0], probability[:0])
    with pytest.raises(DataError, match="Truth must be 0, 1 or NaN"):
        cooccurrence(probability, predicted, NAMES)
    with pytest.raises(DataError, match=r"\(n_samples, 2\). Received: \(4, 3\)"):
        contradictions(predicted, ["Edema", NO_FINDING], NO_FINDING)
    with pytest.raises(DataError, match="0 or 1"):
        silent(predicted * np.nan)
    with pytest.raises(DataError, match=r"Received: \(3,\)"):
        silent(predicted[0])
