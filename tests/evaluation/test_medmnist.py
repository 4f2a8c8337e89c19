"""ChestMNIST's own measures and result file."""

from __future__ import annotations

import csv
import importlib.util

import numpy as np
import pytest
from helpers.chestmnist import write_chestmnist
from helpers.refusals import refusal

from cxr_keras import evaluate, train
from cxr_keras.data.readers.chestmnist import NAMES
from cxr_keras.evaluation.medmnist import (
    MedMNISTMeasures,
    medmnist_measures,
    result_name,
    write_medmnist_result,
)
from cxr_keras.metrics.per_label import average, label_table


@pytest.fixture
def case():
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, (40, 14))
    truth[:2] = [[0], [1]]  # each label has both classes
    return truth, np.round(rng.random((40, 14)), 1)  # with ties, and some exactly 0.5


def slow_measures(truth, score):
    """AUC by comparing every pair of images, ACC by counting."""
    aucs, right = [], 0
    for label in range(truth.shape[1]):
        points = []
        for yes in np.flatnonzero(truth[:, label] == 1):
            for no in np.flatnonzero(truth[:, label] == 0):
                a, b = score[yes, label], score[no, label]
                points.append(1.0 if a > b else 0.5 if a == b else 0.0)
        aucs.append(sum(points) / len(points))
        for image in range(len(truth)):
            right += (score[image, label] > 0.5) == (truth[image, label] == 1)
    return sum(aucs) / len(aucs), right / truth.size


def test_both_measures_against_counting(case):
    assert medmnist_measures(*case) == pytest.approx(slow_measures(*case), abs=1e-12)


def test_the_auc_is_the_average_of_our_own_table(case):
    table = label_table(*case, labels=NAMES)
    assert medmnist_measures(*case).auc == pytest.approx(average(table, "auroc"))


def test_exactly_a_half_is_no():
    assert medmnist_measures([[1], [0]], [[0.5], [0.5]]).acc == 0.5
    assert medmnist_measures([[0], [1]], [[0.5], [0.51]]).acc == 1.0


def test_a_label_of_one_class_has_no_auc(case):
    truth, score = case
    truth[:, 3] = 0
    found = medmnist_measures(truth, score)
    assert np.isnan(found.auc)
    assert found.acc == pytest.approx(((score > 0.5) == truth).mean())


def test_what_is_no_truth_or_probability(case):
    truth, score = case
    assert "must both have the shape" in refusal(medmnist_measures, truth[0], score[0])
    assert "must lie in 0…1" in refusal(medmnist_measures, truth, score * 3)


@pytest.mark.parametrize(
    ("size", "run", "name"),
    [
        (28, "7", "chestmnist_test_[AUC]0.763_[ACC]0.948@7.csv"),
        (224, "a b/c.2@x", "chestmnist_224_test_[AUC]0.763_[ACC]0.948@a-b-c-2-x.csv"),
    ],
)
def test_the_name_of_a_result(size, run, name):
    assert result_name(MedMNISTMeasures(0.76349, 0.9477), size=size, run=run) == name


def test_a_result_has_a_row_for_each_image_in_the_archives_order(case, tmp_path):
    truth, score = case
    order = np.random.default_rng(0).permutation(40)
    images = [f"test_{row:06d}" for row in order]
    labels = ("Other", *NAMES[::-1])
    wide = [np.hstack([np.zeros((40, 1)), part[order][:, ::-1]]) for part in case]
    path = write_medmnist_result(tmp_path / "new", images, *wide, labels=labels, size=64, run="r")
    auc, acc = slow_measures(truth, score)
    assert path.name == f"chestmnist_64_test_[AUC]{auc:.3f}_[ACC]{acc:.3f}@r.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == [str(n) for n in range(40)]
    assert (np.array([row[1:] for row in rows], dtype=float) == score).all()


def test_results_that_medmnist_could_not_read(case, tmp_path):
    names = [f"test_{row:06d}" for row in range(40)]
    options = {"size": 28, "run": "r"}
    text = refusal(write_medmnist_result, tmp_path, names, *case, labels=NAMES[:13], **options)
    assert text == (
        "MedMNIST's result needs ChestMNIST's 14 labels; there is no Hernia. Measure a network "
        "that was trained on them."
    )
    for images, received in (
        ([*names[:39], "val_000039"], "40 images of test and val"),
        ([*names[:39], "test_000040"], "40 images of test"),
        ([*names[:39], "test_000001"], "40 images of test"),
        ([], "0 images of none"),
    ):
        text = refusal(write_medmnist_result, tmp_path, images, *case, labels=NAMES, **options)
        assert f"of every image of one split, once. Received: {received}. Measure with" in text
    assert "no image of ChestMNIST" in refusal(
        write_medmnist_result, tmp_path, ["1.png"] * 40, *case, labels=NAMES, **options
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_medmnists_own_evaluator_reads_it_and_agrees(tmp_path, monkeypatch):
    if importlib.util.find_spec("medmnist") is None:
        pytest.skip("the package medmnist is not installed")
    evaluator = pytest.importorskip("medmnist.evaluator")
    labels = np.random.default_rng(2).integers(0, 2, (6, 14))
    labels[:2] = [[0], [1]]
    write_chestmnist(tmp_path / "chestmnist_64.npz", side=64, test_labels=labels)
    score = np.random.default_rng(3).random((6, 14)).astype("float32")
    names = [f"test_{row:06d}" for row in range(6)]
    path = write_medmnist_result(
        tmp_path / "out", names, labels, score, labels=NAMES, size=64, run="r"
    )
    theirs = evaluator.Evaluator("chestmnist", "test", size=64, root=str(tmp_path))
    measures = theirs.evaluate(score)
    assert tuple(measures) == pytest.approx(medmnist_measures(labels, score), abs=1e-9)
    assert theirs.get_standard_evaluation_filename(measures, "r") == path.name
    monkeypatch.setattr(evaluator.Evaluator.__init__, "__defaults__", (None, str(tmp_path)))
    before = path.read_text()
    assert evaluator.Evaluator.parse_and_evaluate(str(path)) == measures
    again = np.loadtxt(path, delimiter=",")  # theirs writes over it
    assert (again == np.loadtxt(before.splitlines(), delimiter=",")).all()


def test_evaluate_on_chestmnist_says_both_measures_and_writes_the_file(tmp_path, tiny_model):
    labels = np.random.default_rng(2).integers(0, 2, (6, 14))
    labels[:2] = [[0], [1]]
    write_chestmnist(tmp_path / "data" / "chestmnist_64.npz", side=64, test_labels=labels)
    done = train(
        tiny_model,
        tmp_path / "data",
        epochs=1,
        size=64,
        fit="whole",
        split_method="official",
        folder=tmp_path,
        name="r",
    )
    result = evaluate(done.folder, resamples=0)
    table = result.predictions
    score = table[[f"prob_{name}" for name in NAMES]].to_numpy()
    found = medmnist_measures(labels, score)
    assert table["Image Index"].tolist() == [f"test_{row:06d}" for row in range(6)]
    file = result.folder / result_name(found, size=64, run="r")
    assert f"AUC {found.auc:.3f}, ACC {found.acc:.3f}; its file is {file}." in result.about[-1]
    assert np.loadtxt(file, delimiter=",")[:, 1:] == pytest.approx(score, abs=1e-6)
    some = evaluate(done.folder, split="all", resamples=0, force=True)
    assert "it wants every image of one of its splits" in some.about[-1]
