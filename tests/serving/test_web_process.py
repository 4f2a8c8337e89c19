"""`cxr-keras serve` as a process: load, clients that are killed, Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import pytest
import requests
from helpers.places import SHARED
from helpers.processes import obey_ctrl_c
from helpers.web import start_server, wait_for

from cxr_keras import predict

pytestmark = pytest.mark.slow
obey_ctrl_c()
CLIENT = """
import sys, requests
files = [("files", ("a.png", open(sys.argv[2], "rb").read()))] * 32
while True:
    requests.post(sys.argv[1] + "/v1/predict", files=files)
    print("answered", flush=True)
"""


@pytest.fixture
def server(run):
    process, client, said = start_server(run.folder)
    yield process, client, said
    process.kill()
    process.wait()


def memory(process):
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf(
        "SC_PAGE_SIZE"
    )


@pytest.fixture(scope="module")
def films(phantoms):
    """Real films where they are at hand."""
    real = SHARED / "nih-128" / "images"
    return sorted((real if real.is_dir() else phantoms / "images").glob("*.png"))[:200]


def test_eight_clients_get_what_predict_says_and_memory_stays_flat(server, run, films):
    process, client, _ = server
    expected = {row.path.name: row.probabilities for row in predict(run.folder, films)}
    asked = list(islice(cycle(films), 2000))
    local = threading.local()

    def ask(file):
        session = local.__dict__.setdefault("session", requests.Session())
        parts = [("files", (file.name, file.read_bytes()))]
        answer = session.post(f"{client.url}/v1/predict", files=parts, timeout=60)
        assert answer.status_code == 200
        return file.name, answer.json()["results"][0]["probabilities"]

    with ThreadPoolExecutor(8) as clients:
        half = list(clients.map(ask, asked[:1000]))
        before = memory(process)
        answers = half + list(clients.map(ask, asked[1000:]))
    assert len(answers) == 2000
    for name, found in answers:
        assert found == pytest.approx(expected[name], abs=1e-4)
    assert memory(process) < before + 50e6


def test_clients_that_are_killed_or_slow_cost_the_others_nothing(server, films):
    process, client, _ = server
    killed = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENT, client.url, str(films[0])], stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    slow = []
    for _ in range(20):  # each has sent the beginning of a request, and no more
        line = socket.create_connection(("127.0.0.1", client.port))
        line.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999\r\n")
        slow.append(line)
    for one in killed:
        assert one.stdout.readline() == b"answered\n"
        one.send_signal(signal.SIGKILL)
        one.wait()
    (result,) = client.post("/v1/predict", films[1]).json()["results"]
    assert not result["error"]
    wait_for(lambda: "images_in_work 0.0" in client.get("/metrics").text)
    assert process.poll() is None


def test_ctrl_c_answers_what_was_accepted_and_ends_within_two_seconds(server, films):
    process, client, said = server
    with ThreadPoolExecutor(4) as clients:
        answers = [clients.submit(client.post, "/v1/predict", *films[:16]) for _ in range(4)]
        wait_for(lambda: "images_in_work 0.0" not in client.get("/metrics").text)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        took = time.monotonic() - begun
        done = [one.result() for one in answers]
    answered = [len(one.json()["results"]) for one in done if one.status_code == 200]
    told = [one for one in done if one.status_code == 503]  # on a machine that is too busy
    assert len(answered) + len(told) == 4
    assert set(answered) == {16}
    assert said[-1] == "Ended.\n"
    assert took < 2 + 3  # what a busy machine may add


def test_ctrl_c_during_a_slow_heat_map_is_an_answer_and_an_orderly_end(server, films):
    process, client, said = server
    path = "/v1/heatmap?label=Mass&method=occlusion"
    with ThreadPoolExecutor(3) as clients:
        maps = [clients.submit(client.post, path, films[n], field="file") for n in range(3)]
        wait_for(lambda: "images_in_work 3.0" in client.get("/metrics").text)
        process.send_signal(signal.SIGINT)
        codes = [one.result().status_code for one in maps]
    assert process.wait(20) == 0
    assert set(codes) <= {200, 204, 503}
    assert "terminate" not in "".join(said)


def test_a_token_from_the_environment(run):
    process, client, said = start_server(run.folder, CXR_KERAS_TOKEN="abcdefghijklmnop")
    try:
        assert client.get("/v1/model").status_code == 200
        assert client.get("/v1/model", headers={"Authorization": "Bearer x"}).status_code == 401
        assert "abcdefghijklmnop" not in "".join(said)
    finally:
        process.kill()
        process.wait()
