r"""Large numbers rehearsed: two processes on NIH's size, and tables of a million rows.

python experiments/benchmarks/rehearsal.py [--images 112120] [--rows 1000000]

112,120 small PNGs under NIH's names are trained on for one epoch by two processes, as `torchrun`
starts them. Then a label table of a million rows in NIH's layout, 250,000 patients, is explored,
split, and made the truth of as many predictions, with 1,000 resamples of the bootstrap over
patients. Each step is a command of its own; its seconds and the most memory that one of its
processes had go to rehearsal.csv beside this script.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from soak import HEADER, IMAGES, full_size

ROWS, PROCESSES = 1_000_000, 2
CXR = [sys.executable, "-m", "cxr_keras"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
WRITTEN = Path(__file__).with_suffix(".csv")


def write_tables(folder: Path, rows: int) -> tuple[Path, Path]:
    """A label table of many rows and a prediction for each, better than chance."""
    from cxr_keras import FINDINGS, LABELS

    rng = np.random.default_rng(0)
    folder.mkdir()
    table, predictions = folder / "Data_Entry_2017_v2020.csv", folder / "predictions.csv"
    with table.open("w", newline="") as truth, predictions.open("w", newline="") as guesses:
        lines, guessed = csv.writer(truth), csv.writer(guesses)
        lines.writerow(HEADER)
        guessed.writerow(["Image Index", *(f"prob_{label}" for label in LABELS)])
        for number in range(rows):
            name = f"{number // 4 + 1:08d}_{number % 4:03d}.png"
            found = set(rng.choice(FINDINGS, rng.integers(1, 3), replace=False))
            found = {"No Finding"} if rng.random() < 0.54 else found
            lines.writerow([name, "|".join(sorted(found)), number % 4, number // 4 + 1])
            chances = rng.random(len(LABELS)) * 0.7
            guessed.writerow(
                [
                    name,
                    *(
                        f"{c + 0.3 * (n in found):.6f}"
                        for n, c in zip(LABELS, chances, strict=True)
                    ),
                ]
            )
    return table, predictions


def measured(what: str, command: list[object]) -> list[object]:
    """Run a command; [what, seconds, GB of its largest process]."""
    begun, peak = time.monotonic(), 0
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(process.stderr.read()))
    reader.start()
    while process.poll() is None:
        peak = max(peak, *(resident(number) for number in family(process.pid)))
        time.sleep(0.2)
    reader.join()
    if process.returncode:
        sys.exit(f"{what} failed:\n{said[0][-3000:]}")
    row = [what, round(time.monotonic() - begun, 1), round(peak / 1e6, 2)]
    print(f"{what}: {row[1]} s, {row[2]} GB", flush=True)
    return row


def family(process: int) -> list[int]:
    """A process, its children and theirs."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return [process]
    return [process, *(number for child in children for number in family(int(child)))]


def resident(process: int) -> int:
    """Memory of a process in kB."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        os.environ["CXR_KERAS_CACHE"] = str(work / "cache")
        if options.images:
            data = full_size(work / "full", options.images)
            start = [*TORCHRUN, "--nproc-per-node", PROCESSES, "-m", "cxr_keras"]
            settings = ["--size", 64, "--per-class", "all", "--epochs", 1, "--batch-size", 64]
            train = ["train", "resnet_custom", "--data", data, *settings]
            place = ["--output-dir", work / "runs", "--name", "run"]
            what = f"an epoch over {options.images:,} images of 64 px, {PROCESSES} processes"
            found.append(measured(what, [*start, *train, *place]))
        if options.rows:
            table, guesses = write_tables(work / "large", options.rows)
            rows = f"{options.rows:,} rows"
            read = [*CXR, "explore", table.parent, "--out", work / "explored"]
            found.append(measured(f"{rows}: explore", read))
            split = [*CXR, "prepare", table.parent, "--allow-missing", "--per-class", "all"]
            found.append(measured(f"{rows}: read and split", split))
            measure = [*CXR, "evaluate", "--predictions", guesses, "--truth", table]
            found.append(measured(f"{rows}: evaluate, 1,000 resamples", measure))
    with WRITTEN.open("w", newline="") as file:
        csv.writer(file).writerows([["step", "seconds", "gigabytes"], *found])


if __name__ == "__main__":
    sys.exit(main())
