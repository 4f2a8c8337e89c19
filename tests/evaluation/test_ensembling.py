"""Ensembles, and thresholds and scaling chosen anew."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from cxr_keras import calibrate, ensemble, load_model, predict, train
from cxr_keras.data.labels import LABELS
from cxr_keras.errors import CxrError
from cxr_keras.runs import model_file, run_folder

COLUMNS = [f"prob_{label}" for label in LABELS]


@pytest.fixture(scope="module")
def second(phantoms, tiny_model, tmp_path_factory):
    """A run on the same split as `run`, with another learning rate."""
    folder = str(tmp_path_factory.mktemp("second"))
    return train(tiny_model, phantoms, epochs=2, lr=0.01, folder=folder)


@pytest.fixture(scope="module")
def both(run, second, tmp_path_factory):
    return ensemble(
        [run.folder, second.folder], name="both", folder=tmp_path_factory.mktemp("ensemble")
    )


def test_an_ensemble_is_the_mean_of_its_members(run, second, both, phantoms):
    tables = [pd.read_csv(r.folder / "predictions.csv")[COLUMNS] for r in (run, second)]
    mean = sum(tables) / 2
    np.testing.assert_allclose(both.predictions[COLUMNS], mean, atol=1e-6)
    images = [phantoms / "images" / name for name in both.predictions["Image Index"]]
    rows = predict(both.folder, images)
    np.testing.assert_allclose([list(row.probabilities.values()) for row in rows], mean, atol=1e-5)


def test_an_ensemble_is_a_run_folder_like_any_other(run, both, tmp_path):
    from cxr_keras import evaluate

    info = json.loads((both.folder / "run.json").read_text())
    assert info["status"] == "done"
    assert [member["weight"] for member in info["settings"]["members"]] == [0.5, 0.5]
    again = evaluate(both.folder, out=tmp_path)
    np.testing.assert_allclose(
        again.predictions[COLUMNS], both.predictions[COLUMNS].to_numpy(), atol=1e-5
    )
    with pytest.raises(CxrError, match="The network was trained on"):
        evaluate(both.folder, split="train")
    kinds = {type(layer).__module__.split(".")[0] for layer in load_model(both.folder).layers}
    assert kinds == {"keras"}


def test_an_ensemble_of_a_run_that_does_not_say_its_images_does_not_either(run, second, tmp_path):
    copy = shutil.copytree(second.folder, tmp_path / "copy")
    card = model_file.read_card(copy)
    model_file.save_model(load_model(copy), card, copy / "model.keras")
    result = ensemble([run.folder, copy], name="both", folder=tmp_path, resamples=0)
    assert model_file.read_images(result.folder, model_file.TRAINED_ON) is None


def test_weights_follow_the_validation_auroc(run, second, tmp_path):
    from cxr_keras.metrics.per_label import average, label_table

    result = ensemble([run.folder, second.folder], name="w", weighted=True, folder=tmp_path)
    scores = []
    for one in (run, second):
        table = pd.read_csv(one.folder / "predictions_val.csv")
        truth = table[[f"true_{label}" for label in LABELS]]
        scores.append(
            average(label_table(truth, table[COLUMNS], labels=LABELS, normal="No Finding"), "auroc")
        )
    members = run_folder.read_run(result.folder)["settings"]["members"]
    weights = [member["weight"] for member in members]
    np.testing.assert_allclose(weights, np.array(scores) / sum(scores), atol=1e-5)


def test_heat_maps_of_an_ensemble_are_refused_in_a_sentence(both, phantoms, tmp_path):
    image = next((phantoms / "images").iterdir())
    with pytest.raises(CxrError, match="ensemble"):
        predict(both.folder, [image], heatmaps=tmp_path)


@pytest.mark.slow
def test_a_disk_that_fills_leaves_no_half_made_ensemble(run, second, tmp_path):
    resource = pytest.importorskip("resource")
    command = [sys.executable, "-m", "cxr_keras", "ensemble", run.folder, second.folder]
    limit = (run.folder / "model.keras").stat().st_size + 2000  # the ensemble holds two
    result = subprocess.run(
        [*map(str, command), "--name", "both", "--output-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode == 1
    assert "cannot be written (File too large). Make room" in result.stderr
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_averaged_is_refused(run, second, phantoms, tiny_model, tmp_path):
    with pytest.raises(CxrError, match=r"needs two runs or more\. Received: 1"):
        ensemble([run.folder], name="x", folder=tmp_path)
    with pytest.raises(CxrError, match="named twice"):
        ensemble([run.folder, run.folder], name="x", folder=tmp_path)
    with pytest.raises(CxrError, match=r"cannot join an ensemble: it lacks predictions_val\.csv"):
        ensemble([run.folder, phantoms], name="x", folder=tmp_path)
    other = train(tiny_model, phantoms, epochs=1, data_seed=3, folder=str(tmp_path), name="other")
    with pytest.raises(CxrError, match="trained on different data or splits"):
        ensemble([run.folder, other.folder], name="x", folder=tmp_path)
    assert not (tmp_path / "x").exists()
    with pytest.raises(CxrError, match=r"exists\. Give another --name"):
        ensemble([run.folder, second.folder], name="other", folder=tmp_path)


@pytest.fixture
def copy(run, tmp_path):
    """A copy of `run` that a test may change."""
    return shutil.copytree(run.folder, tmp_path / "copy")


def test_thresholds_for_a_sensitivity_go_into_the_card(run, copy, phantoms):
    before = load_model(copy).get_weights()
    result = calibrate(copy, sensitivity=1.0, resamples=0)
    card = model_file.read_card(copy)
    assert result.assessment.thresholds == dict(zip(card.labels, card.thresholds, strict=True))
    validation = pd.read_csv(copy / "predictions_val.csv")
    for label, threshold in zip(card.labels, card.thresholds, strict=True):
        positive = validation.loc[validation[f"true_{label}"] == 1, f"prob_{label}"]
        if len(positive) >= 5:
            assert (positive >= threshold).all(), label
    info = run_folder.read_run(copy)
    assert info["thresholds"] == pytest.approx(result.assessment.thresholds)
    assert info["calibration"]["sensitivity"] == 1.0
    for a, b in zip(before, load_model(copy).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(
        model_file.read_images(copy, member) == model_file.read_images(run.folder, member)
        for member in (model_file.TRAINED_ON, model_file.TUNED_ON)
    )


@pytest.mark.parametrize("method", [pytest.param("temperature", marks=pytest.mark.slow), "platt"])
def test_scaled_probabilities_are_what_evaluate_and_predict_give(
    run, second, copy, phantoms, method
):
    from cxr_keras.metrics.calibration import Scaling

    result = calibrate(copy, method=method, resamples=0)
    scaling = Scaling.from_dict(model_file.read_card(copy).scaling)
    raw = pd.read_csv(run.folder / "predictions.csv")[COLUMNS].to_numpy()
    expected = scaling.apply(raw)
    np.testing.assert_allclose(result.predictions[COLUMNS], expected, atol=1e-5)
    images = [phantoms / "images" / name for name in result.predictions["Image Index"][:3]]
    rows = predict(copy, images)
    np.testing.assert_allclose(
        [list(row.probabilities.values()) for row in rows], expected[:3], atol=1e-5
    )
    with pytest.raises(CxrError, match="calibrated outputs"):
        ensemble([copy, second.folder], name="x", folder=copy.parent)
    undone = calibrate(copy, resamples=0)
    np.testing.assert_allclose(undone.predictions[COLUMNS], raw, atol=1e-6)


def test_another_data_folder_has_no_validation_split_to_calibrate_on(copy, make_folder):
    rows = [(f"{i}.png", label, i) for i, label in enumerate(LABELS)]
    with pytest.raises(CxrError, match="was not trained on"):
        calibrate(copy, make_folder(rows))


def test_no_finding_is_resolved_when_asked(copy, phantoms):
    import dataclasses

    file = copy / "model.keras"
    card = model_file.read_card(file)
    model_file.replace_card(file, dataclasses.replace(card, thresholds=(0.0,) * 15))
    image = next((phantoms / "images").iterdir())
    assert len(predict(copy, [image])[0].findings) == 15
    resolved = predict(copy, [image], resolve_no_finding=True)[0].findings
    assert set(resolved) == set(LABELS) - {"No Finding"}
