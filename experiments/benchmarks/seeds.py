"""How far a result depends on the seed: the same training several times, on one split.

python experiments/benchmarks/seeds.py MODEL [--data DATA] [--seeds 42,43,44] [--epochs 30]

Trains MODEL once with each seed (of weights, dropout and batches; the choice of images and the
split stay), averages the runs into an ensemble, and prints and writes AUROC on the test split:
of each seed, mean and standard deviation over them, and of the ensemble. Runs that are done are
not trained again.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from cxr_keras import ensemble, train
from cxr_keras.utils.console import print_notices


def run_seed(arguments: argparse.Namespace, seed: int) -> Path:
    """The run folder of one seed, trained unless it is done."""
    name = f"{arguments.model}-ep{arguments.epochs}-lr{arguments.lr:g}-seed{seed}"
    info = arguments.runs / name / "run.json"
    if not info.is_file() or json.loads(info.read_text())["status"] != "done":
        options = {"epochs": arguments.epochs, "lr": arguments.lr, "seed": seed, "resume": True}
        train(arguments.model, arguments.data, name=name, folder=arguments.runs, **options)
    return info.parent


def auroc(folder: Path) -> pd.Series:
    """AUROC by label and average, of a run's own test split."""
    table = folder / "metrics.csv"
    if not table.is_file():
        raise SystemExit(f"{folder} has no test split to measure on; give another --runs folder.")
    return pd.read_csv(table).set_index("label")["auroc"].dropna()


def table_of(runs: dict[int, Path], both: Path) -> pd.DataFrame:
    """One row per label and average: a column per seed, mean, sd (n − 1), the ensemble's."""
    seeds = pd.DataFrame({f"seed_{seed}": auroc(folder) for seed, folder in runs.items()})
    spread = {"mean": seeds.mean(axis=1), "sd": seeds.std(axis=1), "ensemble": auroc(both)}
    return seeds.assign(**spread).rename_axis("label")


def main() -> None:
    """Train with each seed, average, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", help="a data folder; by default as `cxr-keras train`")
    parser.add_argument("--seeds", default="42,43,44", help="two or more, between commas")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--lr", type=float, default=0.0005)
    parser.add_argument("--runs", type=Path, default=Path("saved_models/seeds"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("seeds.csv"))
    arguments = parser.parse_args()
    print_notices()
    seeds = sorted({int(seed) for seed in arguments.seeds.split(",")})
    runs = {seed: run_seed(arguments, seed) for seed in seeds}
    name = f"{arguments.model}-ensemble-{'-'.join(map(str, seeds))}"
    both = arguments.runs / name
    if not both.exists():
        ensemble(list(runs.values()), name=name, folder=arguments.runs)
    table = table_of(runs, both).round(4)
    table.to_csv(arguments.out)
    print(table.to_string())


if __name__ == "__main__":
    main()
