"""How fast does `serve` answer? 8 clients that ask one image after the other, against `predict`.

python experiments/benchmarks/serving.py RUN IMAGES [--requests 2000 --clients 8]

Both run in processes of their own, one after the other: first the network with `predict`'s loop on
the same files, then `cxr-keras serve` with clients of a third process. Prints images/s of both,
their ratio, the latency's p50 and p95, the server's memory after a quarter of the requests and at
the end, and appends a row to serving.csv.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
PREDICT = """
import sys, time
from pathlib import Path
from cxr_keras.inference.opened import Opened
from cxr_keras.utils.memory import keep_freed_memory
keep_freed_memory()  # as the command does
files = [Path(line) for line in sys.stdin.read().split("\\n")]
predictor = Opened(sys.argv[1]).predictor()
list(predictor.predict(files[:64]))
begun = time.perf_counter()
list(predictor.predict(files))
print(len(files) / (time.perf_counter() - begun))
"""


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path, help="a folder of PNGs")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    files = list(islice(cycle(sorted(options.images.glob("*.png"))), options.requests))
    row = {
        "run": options.run.name,
        "requests": len(files),
        "clients": options.clients,
        "predict_images_s": predicted(options.run, files),
        **served(options.run, files, options.clients),
    }
    row["ratio"] = row["serve_images_s"] / row["predict_images_s"]
    table = pd.DataFrame([row]).round(3)
    print(table.T.to_string(header=False))
    kept = HERE / "serving.csv"
    table.to_csv(kept, mode="a", header=not kept.exists(), index=False)


def predicted(run: Path, files: list[Path]) -> float:
    """Images/s of `predict`'s loop, once the network is loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, str(run)],
        input="\n".join(map(str, files)),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def served(run: Path, files: list[Path], clients: int) -> dict[str, float]:
    """Images/s, latencies in ms and memory in MB of the server."""
    command = [sys.executable, "-m", "cxr_keras", "serve", str(run), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        port = next(int(m[1]) for line in server.stderr if (m := re.search(r":(\d+)/ \(", line)))
        ask(port, files[:64], clients)
        quarter = len(files) // 4
        begun = time.perf_counter()
        seconds = ask(port, files[:quarter], clients)
        early = memory_mb(server.pid)
        seconds += ask(port, files[quarter:], clients)
        took = time.perf_counter() - begun
        return {
            "serve_images_s": len(files) / took,
            "p50_ms": float(np.percentile(seconds, 50)) * 1000,
            "p95_ms": float(np.percentile(seconds, 95)) * 1000,
            "memory_mb_early": early,
            "memory_mb_end": memory_mb(server.pid),
        }
    finally:
        server.terminate()
        server.wait()


def ask(port: int, files: list[Path], clients: int) -> list[float]:
    """Seconds of each request of so many clients, each with one connection."""
    seconds: list[float] = []
    parts = [files[number::clients] for number in range(clients)]
    threads = [threading.Thread(target=_client, args=(port, part, seconds)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seconds) == len(files), "a client failed"
    return seconds


def _client(port: int, files: list[Path], seconds: list[float]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    head = (
        '--border\r\nContent-Disposition: form-data; name="files"; filename="film.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=border"}
    for file in files:
        body = head.encode() + file.read_bytes() + b"\r\n--border--\r\n"
        begun = time.perf_counter()
        connection.request("POST", "/v1/predict", body, kind)
        answer = connection.getresponse()
        found = json.loads(answer.read())
        assert answer.status == 200, found
        assert not found["results"][0]["error"], found
        seconds.append(time.perf_counter() - begun)
    connection.close()


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
