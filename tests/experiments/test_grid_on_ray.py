"""The grid of the report's runs over a Ray cluster."""

import json
import subprocess
import sys

import pytest
from helpers.experiments import EXPERIMENTS
from helpers.processes import kill_ray_workers, skip_without_ray, wait_until
from report import grid


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks processes up in /proc")
def test_runs_whose_worker_is_killed_are_made_all_the_same(tmp_path, phantoms):
    skip_without_ray()
    command = ["--quick", "--data", phantoms, "--only", "C11,C12", "--out", tmp_path, "--ray"]
    script = [sys.executable, EXPERIMENTS / "reproduce.py", *command]
    process = subprocess.Popen(list(map(str, script)), stderr=subprocess.PIPE, text=True)
    runs = [tmp_path / "runs-quick" / grid.shortened(plan).name for plan in grid.choose("C11,C12")]
    wait_until((runs[0] / "run.json").exists, process)
    assert kill_ray_workers("train_here")
    said = process.communicate(timeout=170)[1]
    assert process.returncode == 0, said
    for run in runs:
        assert json.loads((run / "run.json").read_text())["status"] == "done"
        assert (run / "metrics.csv").is_file()
    assert "2/2 runs" in said
    again = subprocess.run(list(map(str, script)), capture_output=True, text=True, timeout=170)
    assert again.returncode == 0
    assert again.stderr.count("is done: skipped.") == 2
