"""A prediction over the workers of a Ray cluster: the rows of one machine, whoever dies."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from helpers.processes import (
    assert_one_sentence,
    cxr,
    kill_ray_workers,
    skip_without_ray,
    wait_until,
)
from helpers.refusals import refusal

from cxr_keras import predict
from cxr_keras.inference.on_ray import PART, predict_on_ray
from cxr_keras.runs.model_file import find_model


def test_without_ray_it_says_what_to_install(run, phantoms, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    text = refusal(predict, run.folder, phantoms / "images", ray="")
    assert 'pip install "cxr-keras[ray]"' in text


def test_heat_maps_are_not_drawn_on_a_cluster(run, phantoms, tmp_path):
    text = refusal(predict, run.folder, phantoms / "images", ray="", heatmaps=tmp_path)
    assert "made on one machine" in text


@pytest.fixture
def cluster(unused_tcp_port, monkeypatch):
    """A Ray cluster of two workers on this machine, with Ray's own token; its address."""
    skip_without_ray()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # which Ray reads when it is imported
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    subprocess.run([*ray, "get-auth-token", "--generate"], check=True, capture_output=True)
    start = ["start", "--head", "--block", "--num-cpus=2", "--include-dashboard=false"]
    head = subprocess.Popen(
        [*ray, *start, f"--port={unused_tcp_port}"], stdout=subprocess.DEVNULL, process_group=0
    )
    wait_until(lambda: answers(unused_tcp_port), head)
    yield f"127.0.0.1:{unused_tcp_port}"
    os.killpg(head.pid, signal.SIGKILL)  # asked politely, Ray takes half a minute
    head.wait()


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.fixture
def many(phantoms, tmp_path):
    """More images than one part holds, and a file that is none in the middle."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    images = sorted((phantoms / "images").iterdir())
    return [*images * 5, broken, *images * 5]


def assert_same_rows(ours, theirs):
    assert [row.path for row in ours] == [row.path for row in theirs]
    assert [row.error for row in ours] == [row.error for row in theirs]
    assert [row.findings for row in ours] == [row.findings for row in theirs]
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine.probabilities == pytest.approx(yours.probabilities, abs=1e-6)


@pytest.mark.slow
def test_the_command_writes_what_one_machine_writes(run, many, tmp_path):
    skip_without_ray()
    names = [os.path.relpath(path, tmp_path) for path in (many[0], many[len(many) // 2], many[1])]
    for target, where in (("one.csv", ()), ("ray.csv", ("--ray",))):
        result = cxr("predict", run.folder, *names, "--csv", target, *where, cwd=tmp_path)
        assert result.returncode == 1, result.stderr  # for the broken file
        assert result.stderr.endswith("1 of 3 files could not be read.\n")
    assert (tmp_path / "ray.csv").read_text() == (tmp_path / "one.csv").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks processes up in /proc")
def test_workers_that_are_killed_cost_no_row(cluster, run, many):
    file = find_model(run.folder)
    results = predict_on_ray(
        file,
        many,
        tta="none",
        precision="float32",
        fix_orientation=False,
        identifiers=True,
        address=cluster,
    )
    rows = [next(results) for _ in range(PART + 1)]
    assert kill_ray_workers("_Worker")
    rows += results
    assert_same_rows(rows, predict(run.folder, many))


@pytest.mark.slow
def test_a_cluster_that_is_none(run, phantoms):
    skip_without_ray()
    images = phantoms / "images"
    result = cxr("predict", run.folder, images, "--ray", "films/")
    assert_one_sentence(result, "Received: 'films/'", "put --ray behind everything else")
    result = cxr("predict", run.folder, images, "--ray", "127.0.0.1:1")
    assert_one_sentence(result, "No Ray cluster answers at 127.0.0.1:1", "ray start --head")
