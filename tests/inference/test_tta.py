"""Test-time augmentation, against views that are run one by one."""

import shutil
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from helpers.refusals import refusal
from helpers.run_folders import content, pixels_of, probabilities

from cxr_keras import calibrate, ensemble, evaluate, load_model, predict
from cxr_keras.inference.forward import forward
from cxr_keras.inference.options import TTA, Tta
from cxr_keras.inference.tta import VIEWS


def mirrored(pixels):
    return np.stack([np.fliplr(image) for image in pixels])


def reference(folder, pixels):
    """The mean of the network's outputs for the images and for their mirror images."""
    model = load_model(folder)
    return (model.predict(pixels, verbose=0) + model.predict(mirrored(pixels), verbose=0)) / 2


def test_evaluate_averages_and_leaves_the_plain_tables_alone(copy, phantoms):
    before = content(copy)
    result = evaluate(copy, resamples=0, tta="flip")
    assert result.folder == copy / "evaluation-test-flip"
    assert content(copy) == before
    expected = reference(copy, pixels_of(copy, phantoms))
    np.testing.assert_allclose(probabilities(result.folder), expected, atol=1e-6)
    assert np.abs(expected - probabilities(copy)).max() > 1e-4


@pytest.mark.slow
def test_other_evaluations_have_other_folders(copy, many_labels):
    assert evaluate(copy, resamples=0, tta="flip", thresholds=0.5).folder.name == (
        "evaluation-test-at-0.5-flip"
    )
    assert evaluate(copy, many_labels, resamples=0, tta="flip").folder.name == (
        "evaluation-labels-all-flip"
    )


def test_predict_averages_bad_files_and_all(run, phantoms, tmp_path):
    names = pd.read_csv(run.folder / "predictions.csv")["Image Index"]
    images = [phantoms / "images" / name for name in names]
    (tmp_path / "bad.png").write_bytes(b"junk")
    rows = predict(run.folder, [images[0], tmp_path / "bad.png", *images[1:]], tta="flip")
    assert rows.pop(1).error
    found = np.array([list(row.probabilities.values()) for row in rows])
    expected = reference(run.folder, pixels_of(run.folder, phantoms))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    limits = np.array(list(run.info["thresholds"].values()))
    predicted = [len(row.findings) for row in rows]
    assert predicted == (found >= limits).sum(axis=1).tolist()


@pytest.mark.slow
def test_of_a_calibrated_network_and_an_ensemble(many_labels_run, many_labels, tmp_path):
    one, other = (shutil.copytree(many_labels_run.folder, tmp_path / name) for name in "ab")
    calibrate(other, method="platt", resamples=0)
    both = ensemble([one, other], name="both", folder=tmp_path, resamples=0).folder
    for folder in (other, both):
        result = evaluate(folder, resamples=0, tta="flip")
        expected = reference(folder, pixels_of(folder, many_labels))
        np.testing.assert_allclose(probabilities(result.folder), expected, atol=1e-6)


def test_each_batch_is_taken_once(run):
    """Views are made of decoded pixels: nothing is decoded twice."""
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 255, (n, 256, 256, 1), dtype="uint8") for n in (3, 1)]
    model = load_model(run.folder)
    taken = []
    given = (taken.append(len(batch)) or batch for batch in batches)
    results = list(forward(model, given, tta="flip"))
    assert taken == [3, 1]
    assert [result.shape for result in results] == [(3, 15), (1, 15)]
    assert {result.dtype for result in results} == {np.dtype("float32")}


def test_a_mirror_image_gets_the_same_probabilities(run):
    pixels = np.random.default_rng(0).integers(0, 255, (2, 256, 256, 1), dtype="uint8")
    model = load_model(run.folder)
    ours, theirs = (next(forward(model, [p], tta="flip")) for p in (pixels, mirrored(pixels)))
    np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_every_choice_has_its_views():
    assert set(VIEWS) == set(TTA) == set(get_args(Tta))
    pixels = np.arange(24, dtype="uint8").reshape(2, 3, 4, 1)
    for views in VIEWS.values():
        assert all(view(pixels).shape == pixels.shape for view in views)


def test_an_unknown_one_is_refused_before_anything_is_done(run, tmp_path):
    says = "There is no test-time augmentation 'rotate'. Choose one of: none, flip."
    assert refusal(evaluate, run.folder, tta="rotate", out=tmp_path / "out") == says
    assert refusal(predict, run.folder, tmp_path, tta="rotate") == says
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_it_belongs_to_a_network(run_cli, run, phantoms, tmp_path):
    result = run_cli(
        *("evaluate", "--predictions", run.folder / "predictions.csv", "--tta", "flip"),
        *("--truth", phantoms / "Data_Entry_2017_v2020.csv", "--out", tmp_path / "out"),
    )
    assert result.returncode == 2
    assert "--tta belongs to a RUN; leave it out." in result.stderr
