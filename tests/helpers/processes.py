"""Processes of their own, which can be killed or confined."""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SETPRIV = shutil.which("setpriv")

# The fixture `tiny_model`, for the code of a process of its own
TINY_NETWORK = """
import keras
from cxr_keras import train, register_model

@register_model(source="the tests")
def tiny_test_net(x):
    x = keras.layers.Conv2D(6, 7, strides=8, name="conv1")(x)
    x = keras.layers.BatchNormalization(name="conv1_bn")(x)
    x = keras.layers.ReLU(name="conv1_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.layers.Dropout(0.2, name="dropout")(x)
"""


def in_process(code: str, *args: object) -> subprocess.Popen[str]:
    """Python code in a process of its own, which can be killed or confined."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], stderr=subprocess.PIPE, text=True
    )


def cxr(*args, limit=None, obey_rights=False, cwd=None, **environment):
    """`cxr-keras …` as a process; `limit` is the largest file in bytes that it may write.

    `obey_rights` takes root's right to pass over permissions away.
    """
    command = [sys.executable, "-m", "cxr_keras", *map(str, args)]
    if obey_rights and os.geteuid() == 0:
        without = "--{}=-dac_override,-dac_read_search"
        command = [SETPRIV, *(without.format(s) for s in ("bounding-set", "inh-caps")), *command]

    def set_limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
        preexec_fn=set_limit if limit else None,
        timeout=170,
        check=False,
    )


def assert_one_sentence(result, *says):
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    error = next(line for line in result.stderr.splitlines() if line.startswith("Error: "))
    for text in says:
        assert text in error, error


def obey_ctrl_c():
    """Tests that run in the background of a shell inherit that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(happens, process, seconds=120):
    """Return as soon as `happens()` is true; fail if `process`, which is to do it, ends first."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert process.poll() is None, "it ended before it happened"
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(0.002)


def killed_when(command, happens, environment):
    """Start `command` and kill -9 it as soon as `happens`."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
    wait_until(happens, process)
    process.send_signal(signal.SIGKILL)
    process.wait()


def skip_without_ray():
    """Skip the test where the extra ray is not installed, and do not import Ray yet."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra ray is not installed")


def kill_ray_workers(doing):
    """kill -9 the processes of Ray that are at work on what has this name; how many there were."""
    killed = 0
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name = file.read_bytes().decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if name.startswith("ray::") and doing in name:
            os.kill(int(file.parent.name), signal.SIGKILL)
            killed += 1
    return killed
