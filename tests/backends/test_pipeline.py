"""What a person does with the program, on the backend that the suite runs on.

`KERAS_BACKEND=jax python -m pytest -m "" tests/backends` runs it on JAX; `.ci/run` runs it on all.
"""

import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest
from helpers.backends import probabilities

from cxr_keras import calibrate, ensemble, evaluate, load_model, predict, train
from cxr_keras.data.preparation import prepare
from cxr_keras.errors import CxrError
from cxr_keras.inference.grad_cam import grad_cam

BACKEND = keras.backend.backend()


def pixels_of(folder):
    return prepare(folder).split("test").batch([0])[0, ..., 0]


@pytest.mark.slow
def test_a_run_is_evaluated_calibrated_averaged_and_used(few, tiny_model, tmp_path):
    runs = [
        train(tiny_model, few, epochs=2, lr=lr, name=f"at{lr}", folder=tmp_path).folder
        for lr in (0.01, 0.001)
    ]
    both = ensemble(runs, name="both", folder=tmp_path, resamples=0)
    members = [probabilities(pd.read_csv(run / "predictions.csv")) for run in runs]
    np.testing.assert_allclose(probabilities(both.predictions), np.mean(members, axis=0), atol=1e-6)
    files = sorted((few / "images").iterdir())
    table = pd.DataFrame([row.probabilities for row in predict(both.folder, few / "images")])
    single = [[list(row.probabilities.values()) for row in predict(run, files)] for run in runs]
    np.testing.assert_allclose(table.to_numpy(), np.mean(single, axis=0), atol=1e-5)
    calibrated = calibrate(runs[0], method="temperature", resamples=0)
    again = evaluate(runs[0], resamples=0, out=tmp_path / "again")
    expected = probabilities(calibrated.predictions)
    np.testing.assert_allclose(probabilities(again.predictions), expected, atol=1e-6)


def test_a_heat_map_is_the_gradient_times_the_features(run, phantoms):
    """Against finite differences of the head, which need no backend's gradient."""
    pixels = pixels_of(phantoms)
    model = load_model(run.folder)
    relu = model.get_layer("conv1_relu").output
    trunk = keras.Model(model.input, relu)
    head = keras.Model(relu, model.get_layer("logits").output)
    features = np.asarray(trunk.predict_on_batch(pixels[None, ..., None]), "float64")
    step, weights = 0.05, []
    for channel in range(features.shape[-1]):
        up, down = features.copy(), features.copy()
        up[..., channel] += step
        down[..., channel] -= step
        both = np.concatenate([up, down]).astype("float32")
        higher, lower = np.asarray(head.predict_on_batch(both), "float64")
        weights.append((higher - lower) / (2 * step))
    maps = np.maximum(features[0] @ np.array(weights), 0)  # (h, w, labels)
    label = int(maps.std(axis=(0, 1)).argmax())  # a map may be 0 all over
    small = maps[..., label]
    heat = grad_cam(model, pixels, [label, 0])
    assert heat.shape == (2, 256, 256)
    centre = heat[0][16:240, 16:240]
    size = 224 // small.shape[0]
    middles = centre[size // 2 :: size, size // 2 :: size][: small.shape[0], : small.shape[1]]
    assert np.corrcoef(middles.ravel(), small.ravel())[0, 1] > 0.97


@pytest.mark.slow
def test_deterministic_is_torchs_alone(few, tiny_model, tmp_path):
    options = {"epochs": 1, "folder": tmp_path, "deterministic": True}
    if BACKEND == "torch":
        assert train(tiny_model, few, **options).info["settings"]["deterministic"] is True
    else:
        with pytest.raises(CxrError, match=f"and KERAS_BACKEND is {BACKEND}. Leave it out"):
            train(tiny_model, few, **options)
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_result(few, tmp_path):
    def command(folder, *more):
        options = ["resnet_custom", "--data", few, "--epochs", "4", "--checkpoint-every", "1"]
        options += ["--size", "64", "--name", "run", "--output-dir", folder, *more]
        return [sys.executable, "-m", "cxr_keras", "train", *map(str, options)]

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    process = subprocess.Popen(command(tmp_path / "killed"), stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed" / "run" / "checkpoint.npz"
    while not checkpoint.exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "run" / "model.keras").exists()
    resumed = subprocess.run(
        command(tmp_path / "killed", "--resume"), check=True, capture_output=True, text=True
    )
    assert "Resuming after epoch" in resumed.stderr
    for name in ("history.csv", "predictions.csv"):
        whole, killed = (
            pd.read_csv(tmp_path / folder / "run" / name).drop(columns="seconds", errors="ignore")
            for folder in ("whole", "killed")
        )
        pd.testing.assert_frame_equal(whole, killed, atol=1e-5)


def test_a_checkpoint_of_another_backend_is_refused(few, tiny_model, tmp_path):
    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    options = {"epochs": 3, "folder": tmp_path, "name": "run", "checkpoint_every": 1}
    with pytest.raises(KeyboardInterrupt):
        train(tiny_model, few, callbacks=[Kill()], **options)
    file = tmp_path / "run" / "checkpoint.npz"
    with np.load(file) as content:
        arrays = dict(content)
    state = json.loads(str(arrays["state"])) | {"backend": "numpy"}
    np.savez(file, **arrays | {"state": np.array(json.dumps(state))})
    with pytest.raises(CxrError, match="was begun with KERAS_BACKEND=numpy, and it is"):
        train(tiny_model, few, resume=True, **options)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "torch", reason="torch is this backend")
def test_torch_is_not_imported(few, tmp_path):
    program = """
import sys
from cxr_keras import evaluate, predict, train
folder, data, image = sys.argv[1:]
run = train("resnet_custom", data, epochs=1, size=64, folder=folder).folder
evaluate(run, resamples=0)
predict(run, image, heatmaps=folder + "/maps")
assert "torch" not in sys.modules, "torch was imported"
"""
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path, few, next((few / "images").iterdir())],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
