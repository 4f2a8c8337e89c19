"""What the loss does to a network that answers "no" to everything.

python experiments/benchmarks/losses.py [--data DATA] [--epochs 8] [--out LOSSES.csv]

Trains alexnet_custom once with each loss, same data, seed and learning rate, and writes the test
split's averages over the 14 findings at a threshold of 0.5.
"""

import argparse
import csv
import tempfile
from pathlib import Path

from cxr_keras import FINDINGS, train

LOSSES = ("bce", "weighted_bce", "focal", "asymmetric")  # bce_logits is bce, see losses.py
COLUMNS = ("loss", "findings_never_predicted", "recall", "precision", "f1", "auroc")


def main() -> None:
    """Train with each loss and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a data folder; by default the phantoms")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("losses.csv"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, arguments.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for loss in LOSSES:
            options = {"epochs": arguments.epochs, "loss": loss, "folder": folder, "name": loss}
            run = train("alexnet_custom", arguments.data, **options)
            table = run.metrics.set_index("label")
            silent = table.loc[list(FINDINGS), "precision"].isna().sum()
            average = table.loc["average of 14 findings"].round(3)
            row = {"loss": loss, "findings_never_predicted": int(silent)}
            row |= {name: average[name] for name in COLUMNS[2:]}
            print(*row.values(), sep="\t", flush=True)
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main()
