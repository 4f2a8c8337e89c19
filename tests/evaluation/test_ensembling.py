"""Ensembles."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.refusals import refusal
from helpers.shared import shared
from PIL import Image

from cxr_keras import ensemble, load_model, predict, train
from cxr_keras.data.images import read_image
from cxr_keras.data.labels import LABELS
from cxr_keras.errors import CxrError
from cxr_keras.evaluation.localization import localize
from cxr_keras.framing import Framing
from cxr_keras.inference.heat_maps import heat_maps
from cxr_keras.models.scaling import with_scaling
from cxr_keras.runs import model_file, run_folder

COLUMNS = [f"prob_{label}" for label in LABELS]


@pytest.fixture(scope="module")
def both(run, second, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensemble")
    averaged = ensemble([run.folder, second.folder], name="both", folder=folder)
    with shared(folder):
        yield averaged


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
    assert Path(info["data"]["root"]).is_absolute()
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
    for member in (model_file.TRAINED_ON, model_file.TUNED_ON):
        assert model_file.count_listed(result.folder, member, []) is None


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


@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_heat_maps_of_an_ensemble_are_the_mean_of_its_members(
    run, second, both, phantoms, tmp_path, method
):
    image = next((phantoms / "images").iterdir())
    pixels, labels = read_image(image), [0, 4]
    members = [heat_maps(load_model(one.folder), method)(pixels, labels) for one in (run, second)]
    mean = sum(members) / 2
    mean /= np.where(
        mean.max(axis=(1, 2), keepdims=True) > 0, mean.max(axis=(1, 2))[:, None, None], 1
    )
    found = heat_maps(load_model(both.folder), method)
    np.testing.assert_allclose(found(pixels, labels), mean, atol=1e-4)
    assert found.cell == heat_maps(load_model(run.folder), method).cell


@pytest.mark.slow
def test_heat_maps_of_an_ensemble_are_drawn_and_measured(both, phantoms, tmp_path):
    image = next((phantoms / "images").iterdir())
    rows = predict(both.folder, [image], heatmaps=tmp_path / "maps", method="layercam")
    assert list((tmp_path / "maps").iterdir()) or "no heat map" in rows[0].warnings[0]
    found = localize(both.folder, resamples=0, out=tmp_path / "localize")
    assert set(found.maps["map"]) >= {"gradcam", "random weights"}


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


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def smaller(phantoms, tiny_model, tmp_path_factory):
    """A run on the same split as `run`, at 96 pixels."""
    folder = tmp_path_factory.mktemp("smaller")
    finished = train(tiny_model, phantoms, epochs=1, lr=0.01, size=96, folder=folder)
    with shared(folder):
        yield finished


@pytest.fixture(scope="module")
def sizes(run, smaller, tmp_path_factory):
    """An ensemble of two sizes, the smaller first."""
    folder = tmp_path_factory.mktemp("sizes")
    averaged = ensemble([smaller.folder, run.folder], name="sizes", folder=folder, resamples=0)
    with shared(folder):
        yield averaged


@pytest.mark.slow
def test_an_ensemble_of_sizes_scales_images_down_for_the_smaller(run, smaller, sizes, phantoms):
    assert load_model(sizes.folder).input_shape == (None, 256, 256, 1)
    assert model_file.read_card(sizes.folder).framing == Framing()
    table = pd.read_csv(sizes.folder / "predictions.csv")
    pixels = [read_image(phantoms / "images" / name) for name in table["Image Index"]]
    small = [np.asarray(Image.fromarray(p).resize((110, 110), Image.BILINEAR)) for p in pixels]
    parts = [
        load_model(one.folder).predict_on_batch(np.stack(images)[..., None])
        for one, images in ((run, pixels), (smaller, small))
    ]
    # Pillow rounds to whole numbers, the layer does not
    np.testing.assert_allclose(table[COLUMNS], sum(parts) / 2, atol=2e-3)


def test_heat_maps_of_an_ensemble_of_sizes(smaller, sizes, phantoms):
    pixels = read_image(next((phantoms / "images").iterdir()))
    maps = heat_maps(load_model(sizes.folder))(pixels, [0, 3])
    assert maps.shape == (2, 256, 256)
    assert maps.max() <= 1
    calibrated = heat_maps(with_scaling(load_model(sizes.folder), np.full(15, 2.0), np.zeros(15)))
    np.testing.assert_allclose(calibrated(pixels, [0, 3]), maps, atol=1e-4)


@pytest.mark.slow
def test_an_ensemble_of_sizes_is_measured_as_it_predicts(run, smaller, sizes, phantoms, tmp_path):
    from cxr_keras import calibrate, evaluate

    for split, name in (("test", "predictions.csv"), ("val", "predictions_val.csv")):
        table = pd.read_csv(sizes.folder / name)
        again = evaluate(sizes.folder, split=split, out=tmp_path / split, resamples=0)
        np.testing.assert_allclose(again.predictions[COLUMNS], table[COLUMNS], atol=1e-6)
    assert "The network was trained on" in refusal(evaluate, sizes.folder, split="train")
    copy = shutil.copytree(sizes.folder, tmp_path / "copy")
    calibrated = calibrate(copy, method="temperature", resamples=0)
    images = [phantoms / "images" / name for name in calibrated.predictions["Image Index"]]
    predicted = [list(row.probabilities.values()) for row in predict(copy, images)]
    np.testing.assert_allclose(predicted, calibrated.predictions[COLUMNS], atol=1e-5)
    unscaled = calibrate(copy, method="none", resamples=0)  # the logits of the mean are its own
    np.testing.assert_allclose(unscaled.predictions[COLUMNS], sizes.predictions[COLUMNS], atol=1e-5)


@pytest.mark.slow
def test_members_of_another_fit_or_data_are_refused(run, smaller, phantoms, tiny_model, tmp_path):
    whole = train(tiny_model, phantoms, epochs=1, size=96, fit="whole", folder=tmp_path)
    says = refusal(ensemble, [run.folder, whole.folder], name="x", folder=tmp_path)
    assert "see different parts of an image (--fit whole and crop)" in says
    other = train(tiny_model, phantoms, epochs=1, size=72, data_seed=3, folder=tmp_path)
    says = refusal(ensemble, [run.folder, other.folder], name="x", folder=tmp_path)
    assert "trained on different data or splits" in says
    copy = shutil.copytree(run.folder, tmp_path / "moved")
    info = run_folder.read_run(copy)
    info["data"]["root"] = str(tmp_path / "gone")
    run_folder.write_run(copy, info)
    says = refusal(ensemble, [copy, smaller.folder], name="x", folder=tmp_path)
    assert str(tmp_path / "gone") in says
    assert not (tmp_path / "x").exists()
