"""What a command leaves out at its start is there when something asks for it."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from cxr_keras.cli import main
main(["models"], standalone_mode=False)
assert "keras" in sys.modules
left_out = {"sklearn", "matplotlib", "requests"} & set(sys.modules)
assert not left_out, left_out
import matplotlib.pyplot, requests, sklearn.metrics
"""


@pytest.mark.slow
def test_unused_parts_of_keras_are_not_imported_and_can_be():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "alexnet_custom" in done.stdout
