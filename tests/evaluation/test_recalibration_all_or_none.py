"""A calibration that fails or is killed leaves the old run, or is completed."""

import shutil
import subprocess
import sys

import pytest
from helpers.model_files import read_member
from helpers.run_folders import content

from cxr_keras import calibrate
from cxr_keras.runs import model_file


@pytest.mark.slow
def test_a_disk_that_fills_late_leaves_the_old_run_whole(many_copy):
    """Network and tables are written, the predictions of the validation split are not."""
    before = content(many_copy)
    code = (
        "import sys, resource\n"
        "from cxr_keras import calibrate\n"
        "from cxr_keras.utils import files\n"
        "from cxr_keras.evaluation import recalibration\n"
        "write = recalibration.write_table\n"
        "def full(table, target):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "    write(table, target)\n"
        "recalibration.write_table = full\n"
        "calibrate(sys.argv[1], method='platt', resamples=0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(many_copy)],
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert f"{many_copy}/predictions_val.csv cannot be written (File too large)" in result.stderr
    assert content(many_copy) == before
    assert not [path.name for path in many_copy.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_run_whole(many_copy):
    resource = pytest.importorskip("resource")
    before = content(many_copy)
    limit = 20_000  # more than run.json, less than the reliability diagram
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "cxr_keras",
            "calibrate",
            str(many_copy),
            "--method",
            "platt",
        ],
        capture_output=True,
        text=True,
        timeout=170,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode == 1
    assert "cannot be written (File too large). Make room" in result.stderr
    assert content(many_copy) == before


@pytest.mark.slow
@pytest.mark.parametrize("moved", [0, 1, 4])
def test_killed_while_the_files_are_moved_the_change_is_completed_by_the_next_reader(
    many_copy, tmp_path, moved
):
    done = shutil.copytree(many_copy, tmp_path / "done")
    calibrate(done, method="platt", resamples=0)
    code = (
        "import os, sys\n"
        "from cxr_keras import calibrate\n"
        "replace, count = os.replace, 0\n"
        "def killed(source, target):\n"
        "    global count\n"
        "    if '.new/' in str(source):\n"
        "        if count == int(sys.argv[2]):\n"
        "            os.kill(os.getpid(), 9)\n"
        "        count += 1\n"
        "    replace(source, target)\n"
        "os.replace = killed\n"
        "calibrate(sys.argv[1], method='platt', resamples=0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(many_copy), str(moved)],
        capture_output=True,
        timeout=170,
    )
    assert result.returncode == -9
    assert content(many_copy) != content(done)
    model_file.read_card(many_copy)  # any use of it
    now, then = content(many_copy), content(done)
    assert now.keys() == then.keys()
    for name in set(now) - {"model.keras", "reliability.png"}:  # archives hold their dates
        assert now[name] == then[name], name
    assert read_member(many_copy, "card.json") == read_member(done, "card.json")
    assert not [path.name for path in many_copy.iterdir() if path.name.startswith(".")]
