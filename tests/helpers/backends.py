"""Networks in processes on another of Keras's backends."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

BARE = """
import sys
sys.modules["cxr_keras"] = None  # an import of it would fail
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
assert keras.backend.backend() == sys.argv[4]
assert not model.compiled
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
"""


def run_on(backend, code, *arguments):
    """Run Python code in a process of its own on `backend`; skip where that is not installed."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed here; .ci/run installs it for this test")
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def run_bare(model_file, pixels, backend, folder):
    """The probabilities of `pixels` from a process that knows Keras only."""
    np.save(folder / "pixels.npy", pixels)
    run_on(backend, BARE, model_file, folder / "pixels.npy", folder / "out.npy", backend)
    return np.load(folder / "out.npy")
