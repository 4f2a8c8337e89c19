"""A trained model.keras gives the same probabilities with a bare Keras on other backends."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from cxr_keras import load_model, train
from cxr_keras.data.images import read_image

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
    return train("alexnet_custom", phantoms, epochs=1, folder=str(folder)).folder


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_bare_keras_agrees(trained, phantoms, tmp_path, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed here; .ci/run installs it for this test")
    films = sorted((phantoms / "images").iterdir())[:4]
    pixels = np.stack([read_image(path) for path in films])[..., None]
    np.save(tmp_path / "pixels.npy", pixels)
    out = tmp_path / "out.npy"
    command = [sys.executable, "-c", BARE, str(trained / "model.keras")]
    command += [str(tmp_path / "pixels.npy"), str(out), backend]
    result = subprocess.run(
        command,
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    expected = load_model(trained).predict_on_batch(pixels)
    np.testing.assert_allclose(np.load(out), expected, atol=1e-5)
