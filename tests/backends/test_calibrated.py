"""A calibrated file gives the same probabilities on every backend and in ONNX Runtime."""

import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from helpers.backends import run_bare, skip_without

from cxr_keras import calibrate, ensemble
from cxr_keras.data.images import read_image
from cxr_keras.runs.model_file import read_card


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
    skip_without("onnxscript", "onnxruntime")
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
