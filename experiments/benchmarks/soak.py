r"""NIH's full size on this machine: memory stays flat, no file stays open.

python experiments/benchmarks/soak.py

112,120 small PNGs under NIH's names and a table of their size are prepared and trained on for one
epoch by a network that weighs nothing, so what is measured is everything else: the table, the
split, the pixel store and the loader. Then a folder of 20,000 phantoms (256 drawings, linked) is
predicted. Prints the peak of the process's memory and its open files before and after.
"""

import argparse
import csv
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES, PREDICTED, DRAWINGS = 112_120, 20_000, 256
HEADER = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID")


def full_size(folder: Path, images: int) -> Path:
    """A data folder of NIH's size and layout, with images of 64 × 64 pixels."""
    from cxr_keras import FINDINGS

    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    with (folder / "Data_Entry_2017_v2020.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(HEADER)
        for number in range(images):
            name = f"{number // 4 + 1:08d}_{number % 4:03d}.png"
            noise = rng.integers(0, 255, (16, 16), dtype="uint8")  # no two alike: no copies
            Image.fromarray(noise).resize((64, 64)).save(folder / "images" / name)
            found = rng.choice(FINDINGS, rng.integers(1, 3), replace=False)
            cell = "No Finding" if rng.random() < 0.54 else "|".join(sorted(found))
            rows.writerow([name, cell, number % 4, number // 4 + 1])
    return folder


def used() -> str:
    """This process's peak memory and open files."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return f"{peak:.2f} GB at most, {len(os.listdir('/proc/self/fd'))} open files"


def train_full(work: Path, images: int) -> Path:
    """Prepare and train on the full size; returns the run folder."""
    from cxr_keras import register_model, train

    import keras  # isort: skip  (after cxr_keras, which chooses the backend)

    @register_model(source="a network that weighs nothing", blocks=())
    def featherweight(x: keras.KerasTensor) -> keras.KerasTensor:
        x = keras.layers.AveragePooling2D(16, name="shrink")(x)
        x = keras.layers.Conv2D(4, 3, strides=2, name="conv1")(x)
        return keras.layers.GlobalAveragePooling2D(name="pool")(x)

    data = full_size(work / "full", images)
    print("Before training:", used(), flush=True)
    begun = time.monotonic()
    options = {"epochs": 1, "batch_size": 64, "per_class": images, "folder": str(work / "runs")}
    run = train("featherweight", data, name="full", **options)
    print(f"After an epoch over {images:,} images ({time.monotonic() - begun:.0f} s):", used())
    return run.folder


def predict_many(work: Path, run: Path, images: int) -> None:
    """Predict a folder of `images` phantoms, in two halves: the second must not need more."""
    from cxr_keras import predict
    from cxr_keras.data.phantom import write_phantoms

    drawn = sorted((write_phantoms(work / "phantoms", count=DRAWINGS) / "images").iterdir())
    for half in ("first", "second"):
        folder = work / half
        folder.mkdir()
        for number in range(images // 2):
            os.link(drawn[number % len(drawn)], folder / f"{number:05d}.png")
        begun = time.monotonic()
        rows = predict(run, [folder])
        assert not any(row.error for row in rows)
        print(
            f"After predicting the {half} {len(rows):,} ({time.monotonic() - begun:.0f} s):",
            end=" ",
        )
        print(used(), flush=True)


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--predicted", type=int, default=PREDICTED)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        os.environ["CXR_KERAS_CACHE"] = str(work / "cache")
        run = train_full(work, arguments.images)
        predict_many(work, run, arguments.predicted)


if __name__ == "__main__":
    sys.exit(main())
