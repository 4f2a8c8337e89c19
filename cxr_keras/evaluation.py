"""A trained network and a split, or a file of predictions, → predictions.csv and metrics.csv."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_keras import artifacts, metrics
from cxr_keras.data import nih
from cxr_keras.data.nih import IMAGE
from cxr_keras.data.preparation import Prepared, PreparedSplit, prepare
from cxr_keras.errors import DataError
from cxr_keras.labels import LABELS, encode_cells
from cxr_keras.paths import atomic_file
from cxr_keras.progress import notice, progress_bar

BATCH_SIZE = 32


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found and where it was written.

    Attributes:
        predictions: "Image Index", "split", prob_<label>…, true_<label>….
        metrics: the table of `metrics.label_table`.
        loss: mean binary cross-entropy over images and labels.
        folder: where predictions.csv and metrics.csv were written.
        notice: a sentence that belongs beside the numbers, empty if none does.
    """

    predictions: pd.DataFrame
    metrics: pd.DataFrame
    loss: float
    folder: Path
    notice: str = ""


def evaluate(
    run: str | Path,
    data: str | Path | None = None,
    *,
    split: str = "test",
    threshold: float = 0.5,
    out: str | Path | None = None,
) -> Evaluation:
    """Run a trained network over a split and write predictions.csv and metrics.csv.

    Args:
        run: a run folder or a `.keras` file.
        data: a data folder; by default the one that the network was trained on.
        split: "train", "val", "test" or "all", chosen as for the network's training.
        threshold: a label is called at or above this probability.
        out: folder for the tables; by default beside the model.

    Raises:
        ModelError, DataError: the model or the data cannot be used.
    """
    file = artifacts.find_model(run)
    card = artifacts.read_card(file)
    model = artifacts.load_model(file)
    prepared = _data_of(card, data)
    if data is None and card.data and prepared.fingerprint != card.data["fingerprint"]:
        notice("The data has changed since this network was trained: the split may differ.")
    sentence = card.notice or ("" if not prepared.phantoms else "These images are phantoms.")
    return evaluate_model(
        model,
        prepared.side(split),
        folder=Path(out) if out else file.parent,
        threshold=threshold,
        sentence=sentence,
    )


def evaluate_model(
    model: Any, side: PreparedSplit, *, folder: Path, threshold: float = 0.5, sentence: str = ""
) -> Evaluation:
    """Evaluate a loaded network on one side of a split and write the two tables."""
    probability = predict_side(model, side)
    predictions = pd.concat(
        [
            side.rows[[IMAGE, "split"]],
            pd.DataFrame(probability, columns=[f"prob_{label}" for label in LABELS]),
            pd.DataFrame(side.truth.astype(int), columns=[f"true_{label}" for label in LABELS]),
        ],
        axis=1,
    )
    return _finish(predictions, folder, threshold, sentence)


def evaluate_predictions(
    predictions: str | Path,
    truth: str | Path,
    *,
    threshold: float = 0.5,
    out: str | Path | None = None,
) -> Evaluation:
    """Measure a CSV of predictions (this tool's or any other's) against a label table.

    Args:
        predictions: CSV with "Image Index" and all 15 prob_<label> columns.
        truth: a label table in NIH's layout.
        threshold: a label is called at or above this probability.
        out: folder for metrics.csv; by default beside `predictions`.

    Raises:
        DataError: a file or column is missing, or no image is in both files.
    """
    source = Path(predictions)
    try:
        table = pd.read_csv(source, dtype={IMAGE: str})
    except (OSError, ValueError) as error:
        raise DataError(f"{source} cannot be read as a table ({error}).") from error
    columns = [f"prob_{label}" for label in LABELS]
    absent = [name for name in (IMAGE, *columns) if name not in table.columns]
    if absent:
        raise DataError(f"{source} lacks the column {', '.join(absent)}.")
    labels, notices = nih.read_label_table(Path(truth))
    for sentence in notices:
        notice(sentence)
    cells = labels.set_index(IMAGE)[nih.FINDING_LABELS]
    known = table[table[IMAGE].isin(cells.index)].reset_index(drop=True)
    if known.empty:
        raise DataError(f"No image of {source} is in {truth}. Check that the two belong together.")
    if len(known) < len(table):
        notice(f"{len(table) - len(known):,} images of {source} are not in {truth}: left out.")
    true = encode_cells(cells[known[IMAGE]]).astype(int)
    names = [f"true_{label}" for label in LABELS]
    kept = known[[IMAGE, *columns]].assign(split=known.get("split", ""))
    joined = pd.concat([kept, pd.DataFrame(true, columns=names)], axis=1)
    folder = Path(out) if out else source.parent
    return _finish(joined, folder, threshold, "", write_predictions=False)


def predict_side(model: Any, side: PreparedSplit) -> np.ndarray:
    """Probabilities of every image of one side, float32 (n, 15), in its order."""
    result = np.zeros((len(side), len(LABELS)), dtype="float32")
    from cxr_keras.kernels import keep_memory, native_kernels

    keep_memory()
    with progress_bar("Running the network", len(side)) as bar, native_kernels(model):
        for start in range(0, len(side), BATCH_SIZE):
            inputs = side.batch(slice(start, start + BATCH_SIZE))
            result[start : start + len(inputs)] = model.predict_on_batch(inputs)
            bar.advance(len(inputs))
    return result


def _data_of(card: artifacts.Card, data: str | Path | None) -> Prepared:
    """The data of a card, or `data` with the card's recipe."""
    recipe = {name: card.data[name] for name in ("per_class", "split", "seed") if name in card.data}
    return prepare(data or card.data.get("root"), **recipe)


def _finish(
    predictions: pd.DataFrame,
    folder: Path,
    threshold: float,
    sentence: str,
    *,
    write_predictions: bool = True,
) -> Evaluation:
    truth = predictions[[f"true_{label}" for label in LABELS]].to_numpy()
    probability = predictions[[f"prob_{label}" for label in LABELS]].to_numpy()
    table = metrics.label_table(truth, probability, thresholds=threshold)
    folder.mkdir(parents=True, exist_ok=True)
    if write_predictions:
        _write(predictions, folder / artifacts.PREDICTIONS)
    _write(table, folder / artifacts.METRICS)
    loss = metrics.binary_cross_entropy(truth, probability)
    return Evaluation(predictions, table, loss, folder, sentence)


def _write(table: pd.DataFrame, target: Path) -> None:
    with atomic_file(target) as temporary:
        table.to_csv(temporary, index=False, float_format="%.7g")
