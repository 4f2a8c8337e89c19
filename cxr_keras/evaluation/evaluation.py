"""A trained network and a split, or a file of predictions, → predictions.csv and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import AGE, FINDING_LABELS, GENDER, IMAGE, PATIENT, VIEW
from cxr_keras.data.labels import LABELS, encode_cells
from cxr_keras.data.preparation import PreparedSplit
from cxr_keras.data.readers import nih
from cxr_keras.data.splits import TEST, VAL
from cxr_keras.errors import DataError
from cxr_keras.evaluation.measured import Measured, data_of, images_of, own_images, recipe_of
from cxr_keras.evaluation.predictions import (
    PREVALENCE,
    PROBABILITY,
    TRUTH,
    assess,
    columns_of,
    labels_of,
    read_predictions,
    write_assessment,
)
from cxr_keras.inference.forward import forward_split
from cxr_keras.inference.options import NO_TTA, Tta
from cxr_keras.inference.tta import check_tta
from cxr_keras.metrics.assessment import Assessment
from cxr_keras.metrics.options import RESAMPLES
from cxr_keras.metrics.per_label import prevalence_table
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
        notice: sentences that belong beside the numbers, empty if none do.
        about: of other data than the network was trained on: its images and patients, and what
            was left out, a sentence each.
        prevalence: of such data: each label's share here and in training, see
            `per_label.prevalence_table`.
    """

    predictions: pd.DataFrame
    assessment: Assessment
    folder: Path
    notice: str = ""
    about: tuple[str, ...] = ()
    prevalence: pd.DataFrame | None = None

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
    split: str | None = None,
    thresholds: float | str = CALIBRATED,
    resamples: int = RESAMPLES,
    force: bool = False,
    out: PathLike | None = None,
    tta: Tta = NO_TTA,
) -> Evaluation:
    """Run a trained network over images and write predictions.csv and its tables.

    Args:
        run: a run folder or a `.keras` file.
        data: a data folder; by default the one that the network was trained on.
        split: "train", "val", "test" or "all" of the data that the network was trained on, chosen
            as for its training; by default "test", which a network may lack. Of other data every
            image, which is the default ("all"), or NIH's official list "test" or "train_val" where
            the folder has it.
        thresholds: from which probability a label is predicted positive: one number for all, or
            "calibrated" for those in the network's card (chosen on its validation split).
        resamples: of the bootstrap over patients; 0 for no intervals.
        force: measure images that the network was trained on, too.
        out: folder for the tables. By default beside the model for its own test split at its
            own thresholds, and in a folder evaluation-… beside it for anything else.
        tta: test-time augmentation: "flip" averages the probabilities of each image and of its
            mirror image. The network's own thresholds were chosen without it.

    Raises:
        ModelError, DataError: the model or the data cannot be used, the network has no such split,
            or it was trained on some of these images.
        CxrError: there is no such `tta`.
    """
    tta = check_tta(tta)
    file = model_file.find_model(run)
    card = model_file.read_card(file)
    limits = thresholds_of(card, thresholds)
    model = model_file.load_model(file)
    measured = _measured(file, card, data, split)
    chosen = measured.images
    refuse_trained_on(file, chosen, force=force)
    _say_tuned_on(file, measured)
    predictions = frame_of(chosen, forward_split(model, chosen, tta=tta), card.labels)
    name = _name(measured, thresholds, tta)
    folder = Path(out) if out else run_folder.results_folder(file) / name
    sentences = [_phantom_sentence(card, measured), card.prevalence_notice]
    result = write_evaluation(
        predictions,
        folder,
        thresholds=limits,
        base_rates=card.data.get("base_rates"),
        resamples=resamples,
        sentence="\n".join(filter(None, sentences)),
    )
    if measured.own:
        (folder / PREVALENCE).unlink(missing_ok=True)  # of an evaluation before this one
        return result
    table = prevalence_table(
        *columns_of(predictions, card.labels)[:1],
        labels=card.labels,
        training=card.data.get("base_rates"),
    )
    write_table(table, folder / PREVALENCE)
    return replace(result, about=measured.about, prevalence=table)


def _measured(file: Path, card: Card, data: PathLike | None, split: str | None) -> Measured:
    """The images to measure: of the data named, or where nobody names any of the card's own."""
    if data is not None or not card.data:
        return images_of(
            data, split, recipe=recipe_of(card), fingerprint=card.data.get("fingerprint")
        )
    prepared = data_of(file, card, data)
    if prepared.fingerprint != card.data.get("fingerprint"):
        notice("The data has changed since this network was trained: the split may differ.")
    return own_images(prepared, split)


def _phantom_sentence(card: Card, measured: Measured) -> str:
    """What drawings among the images or in training mean for the numbers; empty without any."""
    if card.data.get("phantoms") and not measured.phantoms:
        return "This network was trained on phantoms (synthetic drawings), and these are none."
    return card.notice or ("These images are phantoms." if measured.phantoms else "")


def _name(measured: Measured, thresholds: float | str, tta: Tta) -> str:
    """The folder of an evaluation beside the model; the model's own for its own test split."""
    parts = [] if measured.own else [measured.root.resolve().name]
    usual = measured.split == TEST and thresholds == CALIBRATED and tta == NO_TTA
    parts += [measured.split] if parts or not usual else []
    parts += [f"at-{thresholds:g}"] if isinstance(thresholds, float | int) else []
    parts += [tta] if tta != NO_TTA else []
    return "-".join(["evaluation", *parts]) if parts else "."


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
        encode_cells(joined[FINDING_LABELS]).astype(int), columns=[TRUTH + n for n in LABELS]
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
    """`write_evaluation` with a card's own thresholds, base rates and notice, for its run folder.

    Args:
        predictions: of `card.measured_split`. If that is the validation split, its tables go into
            a folder of their own, where nobody takes them for a test split's.
        folder: the run folder, where predictions_val.csv belongs.
        card: of the network.
        resamples: of the bootstrap.
    """
    tested = card.measured_split == TEST
    return write_evaluation(
        predictions,
        folder if tested else folder / run_folder.VALIDATION,
        thresholds=thresholds_of(card, CALIBRATED),
        base_rates=card.data.get("base_rates"),
        resamples=resamples,
        sentence="\n".join(filter(None, [card.notice, card.split_notice, card.prevalence_notice])),
        keep_predictions=tested,
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


def refuse_trained_on(file: Path, images: PreparedSplit, *, force: bool) -> None:
    """Stop, or with `force` say so, if a network was trained on any of `images`.

    Raises:
        DataError: it was.
    """
    count = model_file.count_listed(file, model_file.TRAINED_ON, images.rows["digest"])
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


def _say_tuned_on(file: Path, measured: Measured) -> None:
    """Say it if any of the images were in the network's validation split, here or elsewhere."""
    images = measured.images
    count = model_file.count_listed(file, model_file.TUNED_ON, images.rows["digest"])
    if count is None and measured.own and measured.split in (VAL, "all"):
        notice("A validation split chose this network's epoch and thresholds: it flatters them.")
    elif count:
        notice(
            f"{count:,} of these {len(images):,} images chose this network's epoch and thresholds: "
            "they flatter it."
        )
