r"""Every job side by side with a plain PyTorch loop, in one run on the same machine and images.

python experiments/benchmarks/speed.py --data ../shared/nih-sample \
    --reference ../shared/bench/torch_reference.py

Whole jobs are whole processes, from start to exit and from an empty cache; "images/s" is steady
training speed without validation. Both sides get the same 240 images. The loop has no test split:
it trains on 192 and validates on 48, cxr-keras trains on 153, validates on 39 and tests on 48.
The rows "…-192" give the loop only the 192 images that cxr-keras trains and validates on.
Writes speed.csv beside this file.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
GRID = """
import sys
from cxr_keras import train
from cxr_keras.utils.memory import keep_freed_memory
keep_freed_memory()
data, out, *weights = sys.argv[1:]
for model, epochs in (("alexnet", 15), ("alexnet", 30), ("resnet18", 15)):
    for lr in (0.001, 0.0005):
        file = weights[model == "resnet18"]
        train(model, data, epochs=epochs, lr=lr, weights=file, folder=out)
"""


class Bench:
    """Where things are, and how each side is run."""

    def __init__(self, data: Path, reference: Path, work: Path):
        self.data, self.reference, self.work = data, reference, work
        self.runs = 0

    def ours(self, *args: str) -> tuple[float, dict]:
        """`cxr-keras train …` with an empty cache: wall seconds and run.json."""
        self.runs += 1
        out = self.work / f"run{self.runs}"
        environment = os.environ | {"CXR_KERAS_CACHE": str(self.work / f"c{self.runs}")}
        command = [sys.executable, "-m", "cxr_keras", "train", *args, "--data", str(self.data)]
        command += ["--output-dir", str(out), "--name", "run"]
        begun = time.monotonic()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        return time.monotonic() - begun, json.loads((out / "run" / "run.json").read_text())

    def grid(self) -> float:
        """Wall seconds of the report's six frozen runs in one process, from an empty cache."""
        environment = os.environ | {"CXR_KERAS_CACHE": str(self.work / "grid-cache")}
        weights = [self.weights("alexnet"), self.weights("resnet18")]
        command = [sys.executable, "-c", GRID, str(self.data), str(self.work / "grid"), *weights]
        begun = time.monotonic()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        return time.monotonic() - begun

    def loop(self, *args: str) -> tuple[float, dict]:
        """The plain loop: wall seconds and what it printed."""
        command = [sys.executable, str(self.reference), *args]
        command += ["--images", str(self.data / "images")]
        command += ["--csv", str(self.data / "Data_Entry_2017_v2020.csv")]
        begun = time.monotonic()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return time.monotonic() - begun, json.loads(done.stdout)

    def weights(self, name: str) -> str:
        """A file of random weights under torchvision's names: the same work as ImageNet's."""
        path = self.work / f"{name}.pth"
        if not path.exists():
            write_random_weights(name, path)
        return str(path)


def write_random_weights(name: str, path: Path) -> None:
    """Write what torchvision's file of the network `name` holds, with random numbers in it."""
    import torch

    from cxr_keras.models.registry import build_model, get_spec

    pretrained, model = get_spec(name).pretrained, build_model(name)
    assert pretrained is not None
    suffixes = ("weight", "bias", "running_mean", "running_var")
    state = {}
    for layer_name, prefix in pretrained.layers.items():
        for suffix, values in zip(
            suffixes, model.get_layer(layer_name).get_weights(), strict=False
        ):
            order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[values.ndim]  # Keras's axes → PyTorch's
            state[f"{prefix}.{suffix}"] = torch.from_numpy(values.transpose(order).copy())
    torch.save(state, path)


def full(bench: Bench, optimizer: str) -> tuple[float, float]:
    """Steady images/s of alexnet_custom, all layers."""
    ours = bench.ours("alexnet_custom", "--epochs", "3")[1]["images_per_second"]
    options = ["full", "--model", "alexnet_custom", "--epochs", "3", "--optimizer", optimizer]
    return ours, bench.loop(*options)[1]["images_per_second"]


def frozen(bench: Bench, model: str, *limit: str) -> tuple[float, float]:
    """Whole commands a second: 30 epochs of a frozen network."""
    weights = bench.weights(model)
    ours, _ = bench.ours(model, "--epochs", "30", "--weights", weights)
    loop, _ = bench.loop("frozen", "--model", model, "--epochs", "30", *limit)
    return 1 / ours, 1 / loop


def grid(bench: Bench) -> tuple[float, float]:
    """The report's six frozen runs: one process of ours, six of the loop's.

    The loop runs once for both learning rates, which cost the same, and its seconds count twice.
    """
    ours = bench.grid()
    loop = 0.0
    for model, epochs in (("alexnet", "15"), ("alexnet", "30"), ("resnet18", "15")):
        loop += 2 * bench.loop("frozen", "--model", model, "--epochs", epochs)[0]
    return 1 / ours, 1 / loop


def decode_rate(images: list[Path]) -> float:
    """Images a second that bare Pillow decodes on one core."""
    from PIL import Image

    begun = time.perf_counter()
    for path in images:
        with Image.open(path) as image:
            image.load()
    return len(images) / (time.perf_counter() - begun)


def prepare_rate(bench: Bench) -> tuple[float, float]:
    """Images a second into the pixel store, and (cores × bare Pillow on one core)."""
    os.environ["CXR_KERAS_CACHE"] = str(bench.work / "prepare")
    from cxr_keras.data.pixel_store import open_store
    from cxr_keras.utils.threads import usable_cores

    images = sorted((bench.data / "images").iterdir())
    decode_rate(images)  # warms the page cache for both
    open_store(images[:8], bench.work)  # a store of its own; imports what a store needs
    bare = decode_rate(images)
    begun = time.perf_counter()
    open_store(images, bench.data)
    return len(images) / (time.perf_counter() - begun), usable_cores() * bare


def predict_rate(bench: Bench) -> tuple[float, float]:
    """Images a second from PNG to row, and 1 / (1/decode + 1/network), each alone on all cores."""
    from cxr_keras.models.registry import build_model
    from cxr_keras.models.torch_kernels import native_kernels
    from cxr_keras.utils.memory import keep_freed_memory

    model = build_model("alexnet_custom")
    images = sorted((bench.data / "images").iterdir())
    keep_freed_memory()
    with native_kernels(model):
        return _predict_rate(model, images)


def _predict_rate(model: Any, images: list[Path]) -> tuple[float, float]:
    import numpy as np

    from cxr_keras.data.images import read_image
    from cxr_keras.inference.files import Predictor
    from cxr_keras.inference.forward import BATCH_SIZE
    from cxr_keras.runs.card import Card
    from cxr_keras.utils.threads import threaded_map

    predictor = Predictor(model, Card())
    list(predictor.predict(images[:32]))
    begun = time.perf_counter()
    pixels = list(threaded_map(read_image, images))
    decode = time.perf_counter() - begun
    begun = time.perf_counter()
    for start in range(0, len(pixels), BATCH_SIZE):
        model.predict_on_batch(np.stack(pixels[start : start + BATCH_SIZE])[..., None])
    network = time.perf_counter() - begun
    begun = time.perf_counter()
    list(predictor.predict(images))
    return len(images) / (time.perf_counter() - begun), len(images) / (decode + network)


ROWS: dict[str, tuple[str, float, Callable[[Bench], tuple[float, float]]]] = {
    "full": ("alexnet_custom, all layers, images/s, default Adam", 1.4, lambda b: full(b, "adam")),
    "full-fused": ("the same, loop with fused Adam", 1.1, lambda b: full(b, "adam-fused")),
    "alexnet": ("alexnet frozen, 30 epochs, whole command", 6, lambda b: frozen(b, "alexnet")),
    "alexnet-192": (
        "the same, loop on 192 images",
        6,
        lambda b: frozen(b, "alexnet", "--limit", "192"),
    ),
    "resnet18": ("resnet18 frozen, 30 epochs, whole command", 15, lambda b: frozen(b, "resnet18")),
    "resnet18-192": (
        "the same, loop on 192 images",
        15,
        lambda b: frozen(b, "resnet18", "--limit", "192"),
    ),
    "grid": ("the report's six frozen runs as one batch", 12, grid),
    "prepare": ("prepare, images/s over cores × bare Pillow", 0.85, prepare_rate),
    "predict": ("predict, images/s over decode and network alone", 0.9, predict_rate),
}


def main() -> None:
    """Run the rows and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True, help="torch_reference.py")
    parser.add_argument("--rows", default=",".join(ROWS), help="which rows, by name")
    parser.add_argument("--out", type=Path, default=HERE / "speed.csv")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, arguments.out.open("w", newline="") as file:
        bench = Bench(arguments.data, arguments.reference, Path(work))
        writer = csv.writer(file)
        writer.writerow(("job", "ours_per_second", "reference_per_second", "ratio", "at_least"))
        for name in arguments.rows.split(","):
            job, bar, measure = ROWS[name]
            ours, reference = measure(bench)
            row = (job, f"{ours:.5g}", f"{reference:.5g}", f"{ours / reference:.2f}", bar)
            print(*row, sep="\t", flush=True)
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main()
