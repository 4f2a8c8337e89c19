"""Images/s of a network in the forms that it can be run in: ONNX Runtime, float32, bfloat16.

python experiments/benchmarks/formats.py [NETWORK …]

Random weights, batches of 32, without decoding. Each form is timed in turn, three rounds, the best
counts. Prints a table and writes formats.csv beside this script. Needs the extra onnx; 5 min.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr_keras import build_model, load_model
from cxr_keras.inference.forward import BATCH_SIZE, forward
from cxr_keras.runs.card import Card
from cxr_keras.runs.model_file import save_model
from cxr_keras.runs.onnx_file import OnnxNetwork, export
from cxr_keras.utils.files import write_table

TARGET = Path(__file__).with_suffix(".csv")
NETWORKS = ("alexnet_custom", "efficientnet_lite0", "resnet18", "densenet121")
ROUNDS, BATCHES = 3, 4


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    rows = [_row(name) for name in parser.parse_args().networks]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    write_table(table, TARGET)


def _row(name: str) -> dict[str, Any]:
    keras.utils.set_random_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        save_model(build_model(name, "none", outputs=15), Card(), file)
        export(file, file.with_suffix(".onnx"))
        forms: dict[str, Callable[[], Any]] = {
            "onnx": lambda: OnnxNetwork(file.with_suffix(".onnx")),
            "float32": lambda: load_model(file),
            "bfloat16": lambda: load_model(file, "bfloat16"),
        }
        networks = {form: make() for form, make in forms.items()}
    side = networks["float32"].input_shape[1]
    shape = (BATCH_SIZE, side, side, 1)
    batch = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    best = dict.fromkeys(networks, 0.0)
    for _ in range(ROUNDS):
        for form, network in networks.items():
            list(forward(network, [batch]))
            begun = time.perf_counter()
            list(forward(network, [batch] * BATCHES))
            rate = BATCH_SIZE * BATCHES / (time.perf_counter() - begun)
            best[form] = max(best[form], rate)
    return {"network": name, **{form: round(rate, 1) for form, rate in best.items()}}


if __name__ == "__main__":
    main()
