"""A trained model.keras gives the same probabilities with a bare Keras on other backends."""

import importlib.util
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest

from cxr_keras import build_model, calibrate, ensemble, load_model, train
from cxr_keras.data.images import read_image
from cxr_keras.models.registry import list_models
from cxr_keras.runs.model_file import read_card

BARE = """
import sys
sys.modules["cxr_keras"] = None  # an import of it would fail
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
assert keras.backend.backend() == sys.argv[4]
assert not model.compiled
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
"""


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return train("resnet_custom", phantoms, epochs=1, folder=str(folder)).folder


def run_bare(model_file, pixels, backend, folder):
    """The probabilities of `pixels` from a process that knows Keras only."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed here; .ci/run installs it for this test")
    np.save(folder / "pixels.npy", pixels)
    files = [str(model_file), str(folder / "pixels.npy"), str(folder / "out.npy")]
    result = subprocess.run(
        [sys.executable, "-c", BARE, *files, backend],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return np.load(folder / "out.npy")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_a_trained_network_agrees(trained, phantoms, tmp_path, backend):
    images = sorted((phantoms / "images").iterdir())[:4]
    pixels = np.stack([read_image(path) for path in images])[..., None]
    found = run_bare(trained / "model.keras", pixels, backend, tmp_path)
    expected = load_model(trained).predict_on_batch(pixels)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def calibrated(many_labels_run, many_labels, tmp_path_factory):
    """A run scaled and moved to another prevalence, and a calibrated ensemble; their test split."""
    folder = tmp_path_factory.mktemp("calibrated")
    prevalence = folder / "there.csv"
    prevalence.write_text("label,prevalence\nMass,0.02\nEdema,0.6\n")
    one, other = (shutil.copytree(many_labels_run.folder, folder / name) for name in ("a", "b"))
    calibrate(other, method="temperature", resamples=0)
    both = ensemble([one, other], name="both", folder=folder, resamples=0).folder
    for run in (one, both):
        calibrate(run, method="platt", prevalence=prevalence, resamples=0)
    names = pd.read_csv(one / "predictions.csv")["Image Index"]
    pixels = np.stack([read_image(many_labels / "images" / name) for name in names])[..., None]
    return [one, both], pixels


def assert_as_written(folder, found):
    """Within 1e-6; a slope above 1 makes the float32 rounding of the logits so much larger."""
    written = pd.read_csv(folder / "predictions.csv").filter(like="prob_").to_numpy()
    slope = np.array(read_card(folder).calibration["slope"])
    assert (np.abs(found - written) <= 1e-6 * np.maximum(1, slope)).all()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_a_calibrated_file_agrees_with_its_predictions(calibrated, tmp_path, backend):
    folders, pixels = calibrated
    for folder in folders:
        assert_as_written(folder, run_bare(folder / "model.keras", pixels, backend, tmp_path))


@pytest.mark.slow
def test_a_calibrated_file_agrees_in_onnx(calibrated, tmp_path):
    for package in ("onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed here; .ci/run installs it for this test")
    import onnxruntime

    folders, pixels = calibrated
    for folder in folders:
        model = keras.saving.load_model(folder / "model.keras")
        model.trainable = False  # torch's tracer takes no weight that trains as a constant
        model(pixels[:1])  # Keras exports only what has been called
        model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        given = session.get_inputs()[0].name
        batches = [image[None].astype("float32") for image in pixels]
        found = np.concatenate([session.run(None, {given: batch})[0] for batch in batches])
        assert_as_written(folder, found)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
@pytest.mark.parametrize("name", [s.name for s in list_models() if s.name != "tiny_test_net"])
def test_every_network_agrees(name, backend, tmp_path):
    if name.startswith("kerascv") and importlib.util.find_spec("keras_cv") is None:
        pytest.skip("keras_cv is not installed here; .ci/run installs it for this test")
    model = build_model(name)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 1), dtype="uint8")
    features = keras.Model(model.input, model.get_layer("logits").input)
    model(pixels, training=True)  # moves running statistics off their first values
    spread = keras.ops.convert_to_numpy(features(pixels)).std()
    head = model.get_layer("logits")  # logits of unit size, so that agreement means something
    head.set_weights([weight / spread for weight in head.get_weights()])
    model.save(tmp_path / "model.keras")
    found = run_bare(tmp_path / "model.keras", pixels, backend, tmp_path)
    np.testing.assert_allclose(found, model.predict_on_batch(pixels), atol=1e-4)
