"""Training speed on each of Keras's backends.

python experiments/benchmarks/backends.py [--count 120] [--epochs 3] [--out BACKENDS.csv]

Trains two networks through the command line on the same phantoms, once on each backend that is
installed, and writes run.json's images per second: training alone, the first epoch (in which JAX
and TensorFlow compile) left out. The seconds are those of the whole command, start to finish.
"""

import argparse
import csv
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NETWORKS = ("alexnet_custom", "resnet_custom")
BACKENDS = ("torch", "jax", "tensorflow")
COLUMNS = ("network", "backend", "version", "images_per_second", "seconds", "loss", "cores")


def main() -> None:
    """Train on each backend and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=120, help="phantoms to train on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    with tempfile.TemporaryDirectory() as work, arguments.out.open("w", newline="") as file:
        data = Path(work) / "phantoms"
        _cxr_keras("torch", "phantom", data, "--count", arguments.count)
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for network in NETWORKS:
            for backend in installed:
                row = _measure(network, backend, data, arguments.epochs)
                print(*row.values(), sep="\t", flush=True)
                writer.writerow(row)
                file.flush()


def _measure(network: str, backend: str, data: Path, epochs: int) -> dict[str, object]:
    options = ("--data", data, "--epochs", epochs, "--output-dir", data.parent)
    begun = time.monotonic()
    _cxr_keras(backend, "train", network, *options, "--name", f"{network}-{backend}")
    seconds = time.monotonic() - begun
    info = json.loads((data.parent / f"{network}-{backend}" / "run.json").read_text())
    return {
        "network": network,
        "backend": backend,
        "version": info["versions"][backend],
        "images_per_second": info["images_per_second"],
        "seconds": round(seconds, 1),
        "loss": info["loss"]["train"],
        "cores": os.cpu_count(),
    }


def _cxr_keras(backend: str, *arguments: object) -> None:
    command = [sys.executable, "-m", "cxr_keras", *map(str, arguments)]
    subprocess.run(
        command, env=os.environ | {"KERAS_BACKEND": backend}, check=True, stdout=subprocess.DEVNULL
    )


if __name__ == "__main__":
    main()
