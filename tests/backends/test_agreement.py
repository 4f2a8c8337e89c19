"""One seed, one network, the same numbers on every backend; `.ci/run` installs all three."""

import functools
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
from helpers.backends import run_bare, skip_without

from cxr_keras import build_model, load_model, train
from cxr_keras.data.images import read_image
from cxr_keras.models.registry import list_models
from cxr_keras.runs.model_file import read_card


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return train("resnet_custom", phantoms, epochs=1, size=64, folder=str(folder)).folder


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_a_trained_network_agrees(trained, phantoms, tmp_path, backend):
    images = sorted((phantoms / "images").iterdir())[:4]
    pixels = np.stack([read_image(path, read_card(trained).framing) for path in images])[..., None]
    found = run_bare(trained / "model.keras", pixels, backend, tmp_path)
    expected = load_model(trained).predict_on_batch(pixels)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@functools.lru_cache(maxsize=1)  # of a network's tests, which follow each other
def built(name):
    """A network with random weights, two images for it, and its answers on torch."""
    model = build_model(name)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 1), dtype="uint8")
    features = keras.Model(model.input, model.get_layer("logits").input)
    model(pixels, training=True)  # moves running statistics off their first values
    spread = keras.ops.convert_to_numpy(features(pixels)).std()
    head = model.get_layer("logits")  # logits of unit size, so that agreement means something
    head.set_weights([weight / spread for weight in head.get_weights()])
    return model, pixels, model.predict_on_batch(pixels)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
@pytest.mark.parametrize("name", [s.name for s in list_models() if s.name != "tiny_test_net"])
def test_every_network_agrees(name, backend, tmp_path):
    if name.startswith("kerascv"):
        skip_without("keras_cv")
    skip_without(backend)
    model, pixels, expected = built(name)
    model.save(tmp_path / "model.keras")
    found = run_bare(tmp_path / "model.keras", pixels, backend, tmp_path)
    np.testing.assert_allclose(found, expected, atol=1e-4)


TRAIN = """
import sys
import keras, numpy as np
from cxr_keras import build_model, train

data, folder = sys.argv[1], sys.argv[2]
keras.utils.set_random_seed(7)
model = build_model("resnet_custom", size=64)
np.savez(folder + "/start.npz", *model.get_weights())
for layer in model.layers:
    if isinstance(layer, keras.layers.Dropout):
        layer.rate = 0.0
run = train(model, data, epochs=3, size=64, lr=2e-4, folder=folder, name="run")
"""


def first_weights_and_history(backend, data, folder):
    """The first weights and the history of a run without dropout, in a process on `backend`."""
    skip_without(backend)
    folder.mkdir()
    result = subprocess.run(
        [sys.executable, "-c", TRAIN, str(data), str(folder)],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    with np.load(folder / "start.npz") as file:
        start = [file[name] for name in file.files]
    return start, pd.read_csv(folder / "run" / "history.csv")


@pytest.fixture(scope="module")
def on_torch(phantoms, tmp_path_factory):
    return first_weights_and_history("torch", phantoms, tmp_path_factory.mktemp("on") / "torch")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_one_seed_is_one_training(on_torch, phantoms, tmp_path, backend):
    start, history = first_weights_and_history(backend, phantoms, tmp_path / backend)
    for ours, theirs in zip(start, on_torch[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    losses = ["loss", "val_loss"]
    np.testing.assert_allclose(history[losses], on_torch[1][losses], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_a_run_is_used_on_the_others(trained, phantoms, run_cli, tmp_path, backend):
    """Made on one backend, used on another, both ways, by every command that takes a run."""
    skip_without(backend)
    options = ("--data", phantoms, "--epochs", 1, "--output-dir", tmp_path, "--name", "there")
    there = run_cli("train", "resnet_custom", *options, "--size", 64, KERAS_BACKEND=backend)
    assert there.returncode == 0, there.stderr
    assert "average of 14 findings" in there.stdout
    info = json.loads((tmp_path / "there" / "run.json").read_text())
    assert info["versions"]["backend"] == backend
    for folder, user in ((trained, backend), (tmp_path / "there", "torch")):
        out = tmp_path / f"on-{user}"
        options = ("--out", out, "--thresholds", "0.5")
        again = run_cli("evaluate", folder, *options, KERAS_BACKEND=user)
        assert again.returncode == 0, again.stderr
        tables = [pd.read_csv(place / "predictions.csv") for place in (folder, out)]
        ours, theirs = (table.filter(like="prob_") for table in tables)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    members = (trained, tmp_path / "there")
    both = run_cli(
        "ensemble", *members, "--name", "both", "--output-dir", tmp_path, KERAS_BACKEND=backend
    )
    assert both.returncode == 0, both.stderr
    calibrated = run_cli("calibrate", tmp_path / "both", "--method", "temperature")
    assert calibrated.returncode == 0, calibrated.stderr
    maps, images = tmp_path / "maps", sorted((phantoms / "images").iterdir())
    for command in (
        ("calibrate", tmp_path / "there", "--method", "temperature"),
        # eigencam: after an epoch nothing may speak for a finding, and an empty map is not drawn
        ("predict", tmp_path / "there", *images[:2], "--heatmaps", maps, "--method", "eigencam"),
    ):
        result = run_cli(*command, KERAS_BACKEND=backend)
        assert result.returncode == 0, result.stderr
    assert list(maps.glob("*.png"))
