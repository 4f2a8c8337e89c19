"""A trained model.keras gives the same probabilities with a bare Keras on other backends."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers.shared import shared

from cxr_keras import build_model, load_model, train
from cxr_keras.data.images import read_image
from cxr_keras.models.registry import list_models

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
    finished = train("resnet_custom", phantoms, epochs=1, folder=str(folder))
    with shared(folder):
        yield finished.folder


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
