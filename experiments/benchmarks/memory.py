"""Train every network for one epoch, all layers, and record its peak memory and time.

python experiments/benchmarks/memory.py [--data DATA] [--out experiments/benchmarks/memory.csv]

All parameters train (from random weights), which is what fine-tuning a pretrained network needs
at most. Each network is a process of its own; KerasCV's are left out where it is not installed.
"""

import argparse
import csv
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cxr_keras.models.registry import count_parameters, list_models


def measure(name: str, data: str | None, folder: str) -> dict[str, object]:
    """One epoch of `name`: peak resident memory of the whole process in GB, and seconds."""
    command = [sys.executable, "-m", "cxr_keras", "train", name, "--epochs", "1"]
    command += ["--weights", "none", "--output-dir", folder, "--name", name]
    command += ["--data", data] if data else []
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name} failed; run: {' '.join(command)}")
    return {
        "network": name,
        "parameters": count_parameters(name),
        "peak_memory_gb": round(usage.ru_maxrss / 1e6, 2),  # Linux counts in kB
        "seconds": round(time.monotonic() - begun),
    }


def main() -> None:
    """Measure every network and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a data folder; by default the phantoms")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("memory.csv"))
    arguments = parser.parse_args()
    names = [spec.name for spec in list_models()]
    if importlib.util.find_spec("keras_cv") is None:
        names = [name for name in names if not name.startswith("kerascv")]
    with tempfile.TemporaryDirectory() as folder, arguments.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["network", "parameters", "peak_memory_gb", "seconds"])
        writer.writeheader()
        for name in names:
            row = measure(name, arguments.data, folder)
            print(*row.values(), sep="\t", flush=True)
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main()
