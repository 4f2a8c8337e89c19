"""The script `experiments/reproduce.py` and its example runs."""

import os
import subprocess
import sys

from helpers.places import ROOT

EXPERIMENTS = ROOT / "experiments"
EXAMPLES = EXPERIMENTS / "report" / "example_runs"
C11 = "runs-quick/C11-resnet_custom-ep2-lr0.001"


def script(*arguments, **environment):
    return subprocess.run(
        [sys.executable, EXPERIMENTS / "reproduce.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )
