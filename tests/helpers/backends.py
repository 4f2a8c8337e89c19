"""Networks in processes on another of Keras's backends."""

import atexit
import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading

import numpy as np
import pytest

BARE = """
import json, sys
sys.modules["cxr_keras"] = None  # an import of it would fail
import keras, numpy as np
assert keras.backend.backend() == sys.argv[1]
for line in sys.stdin:
    model_file, pixels, found = json.loads(line)
    model = keras.saving.load_model(model_file)
    assert not model.compiled
    np.save(found, model.predict(np.load(pixels), verbose=0))
    keras.backend.clear_session()
    print("done", flush=True)
"""


def probabilities(table):
    """Those in a table of predictions, (n, n_labels)."""
    return table.filter(like="prob_").to_numpy()


def skip_without(*packages):
    """Skip a test where a backend or another package is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed here; .ci/run installs it for this test")


def run_on(backend, code, *arguments):
    """Run Python code in a process of its own on `backend`; skip where that is not installed."""
    skip_without(backend)
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@functools.cache
def _bare(backend):
    """A process that knows Keras only, kept for all that it is asked, and what it complains of."""
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # open as long as the process
    process = subprocess.Popen(
        [sys.executable, "-c", BARE, backend],
        env=os.environ | {"KERAS_BACKEND": backend},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        text=True,
    )
    atexit.register(process.kill)
    return process, said


def run_bare(model_file, pixels, backend, folder):
    """The probabilities of `pixels` from a process that knows Keras only."""
    skip_without(backend)
    np.save(folder / "pixels.npy", pixels)
    process, said = _bare(backend)
    asked = [str(model_file), str(folder / "pixels.npy"), str(folder / "out.npy")]
    watchdog = threading.Timer(170, process.kill)
    watchdog.start()
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    watchdog.cancel()
    if answer != "done\n":
        _bare.cache_clear()
        process.wait()
        said.seek(0)
        pytest.fail(said.read()[-5000:])
    return np.load(folder / "out.npy")
