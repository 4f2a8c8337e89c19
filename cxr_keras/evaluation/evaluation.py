"""A trained network and a split, or a file of predictions, → predictions.csv and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras.data.labels import LABELS, encode_cells
from cxr_keras.data.preparation import Prepared, PreparedSplit, prepare, recorded_folder
from cxr_keras.data.readers import nih
from cxr_keras.data.readers.nih import AGE, GENDER, IMAGE, PATIENT, VIEW
from cxr_keras.data.splits import TEST, VAL
from cxr_keras.errors import DataError
from cxr_keras.evaluation.predictions import (
    PROBABILITY,
    TRUTH,
    assess,
    labels_of,
    read_predictions,
    write_assessment,
)
from cxr_keras.inference.forward import forward_split
from cxr_keras.metrics.assessment import Assessment
from cxr_keras.metrics.options import RESAMPLES
from cxr_keras.runs import model_file, run_folder
from cxr_keras.runs.card import Card
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import write_table

CALIBRATED = "calibrated"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found and where it was written.

    Attributes:
        predictions: "Image Index", "split", NIH's columns on the patient, prob_<label>…,
            true_<label>….
        assessment: every table made of them.
        folder: where predictions.csv and the tables were written.
        notice: a sentence that belongs beside the numbers, empty if none does.
    """

    predictions: pd.DataFrame
    assessment: Assessment
    folder: Path
    notice: str = ""

    @property
    def metrics(self) -> pd.DataFrame:
        """The per-label table, see `Assessment.metrics`."""
        return self.assessment.metrics

    @property
    def loss(self) -> float:
        """Mean binary cross-entropy over images and labels."""
        return self.assessment.loss


def evaluate(
    run: PathLike,
    data: PathLike | None = None,
    *,
    split: str = "test",
    thresholds: float | str = CALIBRATED,
    resamples: int = RESAMPLES,
    force: bool = False,
    out: PathLike | None = None,
) -> Evaluation:
    """Run a trained network over a split and write predictions.csv and its tables.

    Args:
        run: a run folder or a `.keras` file.
        data: a data folder; by default the one that the network was trained on.
        split: "train", "val", "test" or "all", chosen as for the network's training.
        thresholds: from which probability a label is predicted positive: one number for all, or
            "calibrated" for those in the network's card (chosen on its validation split).
        resamples: of the bootstrap over patients; 0 for no intervals.
        force: measure images that the network was trained on, too.
        out: folder for the tables. By default beside the model for its own test split at its
            own thresholds, and in a folder evaluation-… beside it for anything else.

    Raises:
        ModelError, DataError: the model or the data cannot be used, or the network was trained
            on some of these images.
    """
    file = model_file.find_model(run)
    card = model_file.read_card(file)
    limits = thresholds_of(card, thresholds)
    model = model_file.load_model(file)
    prepared = data_of(card, data)
    own = prepared.fingerprint == card.data.get("fingerprint")
    if data is None and card.data and not own:
        notice("The data has changed since this network was trained: the split may differ.")
    chosen = prepared.split(split)
    refuse_trained_on(file, chosen, force=force)
    _say_tuned_on(file, chosen, split)
    predictions = frame_of(chosen, card.probabilities(forward_split(model, chosen)), card.labels)
    if out is None:
        parts = [] if own else [prepared.root.name]
        parts += [split] if parts or split != TEST or thresholds != CALIBRATED else []
        parts += [f"at-{thresholds:g}"] if isinstance(thresholds, float | int) else []
        home = run_folder.results_folder(file)
        out = home / "-".join(["evaluation", *parts]) if parts else home
    return write_evaluation(
        predictions,
        Path(out),
        thresholds=limits,
        base_rates=card.data.get("base_rates"),
        resamples=resamples,
        sentence=card.notice or ("" if not prepared.phantoms else "These images are phantoms."),
    )


def evaluate_predictions(
    predictions: PathLike,
    truth: PathLike,
    *,
    thresholds: float = 0.5,
    resamples: int = RESAMPLES,
    out: PathLike | None = None,
) -> Evaluation:
    """Measure a CSV of predictions (this tool's or any other's) against a label table.

    Args:
        predictions: CSV with "Image Index" and prob_<label> columns: any of the 15 labels, in
            any order.
        truth: a label table in NIH's layout.
        thresholds: a label is predicted positive at or above this probability.
        resamples: of the bootstrap over patients; 0 for no intervals.
        out: folder for the tables; by default <predictions>-evaluation beside the file.

    Raises:
        DataError: a file or column is missing, a prob_ column names no label, an image stands
            twice, or no image is in both files.
    """
    source = Path(predictions)
    table = read_predictions(source)
    repeated = table.loc[table[IMAGE].duplicated(), IMAGE]
    if len(repeated):
        raise DataError(
            f"{source} has {len(repeated):,} images twice, such as {repeated.iloc[0]}. Keep one "
            "row per image."
        )
    known, notices = nih.read_label_table(Path(truth))
    for sentence in notices:
        notice(sentence)
    joined = table[[IMAGE, *(PROBABILITY + name for name in labels_of(table))]]
    joined = joined.merge(known, on=IMAGE)
    if joined.empty:
        raise DataError(f"No image of {source} is in {truth}. Check that the two belong together.")
    if len(joined) < len(table):
        notice(f"{len(table) - len(joined):,} images of {source} are not in {truth}: left out.")
    true = pd.DataFrame(
        encode_cells(joined[nih.FINDING_LABELS]).astype(int), columns=[TRUTH + n for n in LABELS]
    )
    return write_evaluation(
        pd.concat([joined, true], axis=1),
        Path(out) if out else source.with_name(f"{source.stem}-evaluation"),
        thresholds=thresholds,
        resamples=resamples,
        keep_predictions=False,
    )


def write_evaluation(
    predictions: pd.DataFrame,
    folder: Path,
    *,
    thresholds: float | Mapping[str, float],
    base_rates: Mapping[str, float] | None = None,
    resamples: int = RESAMPLES,
    sentence: str = "",
    keep_predictions: bool = True,
) -> Evaluation:
    """Assess predictions, and write them and their tables into `folder`."""
    found = assess(predictions, thresholds=thresholds, base_rates=base_rates, resamples=resamples)
    folder.mkdir(parents=True, exist_ok=True)
    if keep_predictions:
        write_table(predictions, folder / run_folder.PREDICTIONS)
    write_assessment(found, folder)
    return Evaluation(predictions, found, folder, sentence)


def write_own_evaluation(
    predictions: pd.DataFrame, folder: Path, card: Card, *, resamples: int = RESAMPLES
) -> Evaluation:
    """`write_evaluation` with a card's own thresholds, base rates and notice."""
    return write_evaluation(
        predictions,
        folder,
        thresholds=thresholds_of(card, CALIBRATED),
        base_rates=card.data.get("base_rates"),
        resamples=resamples,
        sentence=card.notice,
    )


def frame_of(
    images: PreparedSplit, probability: np.ndarray, labels: Sequence[str] = LABELS
) -> pd.DataFrame:
    """Predictions of a split as predictions.csv has them; `probability` is ordered as `labels`."""
    truth = images.truth[:, [LABELS.index(label) for label in labels]].astype(int)
    about = [n for n in (IMAGE, "split", PATIENT, AGE, GENDER, VIEW) if n in images.rows.columns]
    return pd.concat(
        [
            images.rows[about],
            pd.DataFrame(probability, columns=[PROBABILITY + label for label in labels]),
            pd.DataFrame(truth, columns=[TRUTH + label for label in labels]),
        ],
        axis=1,
    )


def thresholds_of(card: Card, wanted: float | str) -> float | dict[str, float]:
    """The thresholds of a card for "calibrated", else the one number for all labels.

    Raises:
        DataError: neither of these.
    """
    if wanted == CALIBRATED:
        return dict(zip(card.labels, card.thresholds, strict=True))
    if isinstance(wanted, str) or not 0 <= wanted <= 1:
        raise DataError(f"Thresholds are {CALIBRATED!r} or a number in 0…1. Received: {wanted!r}.")
    return float(wanted)


def data_of(card: Card, data: PathLike | None) -> Prepared:
    """The data of a card, or `data` with the card's recipe."""
    keys = {"per_class": "per_class", "split_method": "split", "seed": "seed"}  # as in run.json
    recipe = {name: card.data[key] for name, key in keys.items() if key in card.data}
    return prepare(data or recorded_folder(card.data), **recipe)


def refuse_trained_on(file: Path, images: PreparedSplit, *, force: bool) -> None:
    """Stop, or with `force` say so, if a network was trained on any of `images`.

    Raises:
        DataError: it was.
    """
    count = _count_images(file, model_file.TRAINED_ON, images)
    if count is None:
        notice(f"{file} does not say which images it was trained on: some may be among these.")
    if not count:
        return
    share = f"{count:,} of these {len(images):,} images"
    if not force:
        raise DataError(
            f"The network was trained on {share}, so it would be measured on what it has learnt "
            "by heart. Choose another --split, or give --force."
        )
    notice(f"The network was trained on {share}: the numbers flatter it.")


def _say_tuned_on(file: Path, images: PreparedSplit, split: str) -> None:
    """Say it if any of `images` were in the network's validation split, here or elsewhere."""
    count = _count_images(file, model_file.TUNED_ON, images)
    if count is None and split in (VAL, "all"):
        notice("A validation split chose this network's epoch and thresholds: it flatters them.")
    elif count:
        notice(
            f"{count:,} of these {len(images):,} images chose this network's epoch and thresholds: "
            "they flatter it."
        )


def _count_images(file: Path, member: str, images: PreparedSplit) -> int | None:
    """How many of `images` are in a list of a model file; None if it has no such list."""
    listed = model_file.read_images(file, member)
    return None if listed is None else int(images.rows["digest"].isin(listed).sum())
