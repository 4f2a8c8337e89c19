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
