"""A trained network and images → predictions.csv and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import PATIENT
from cxr_keras.data.preparation import PreparedSplit
from cxr_keras.data.reading import Data, Reading, ReadSettings, as_data
from cxr_keras.data.splits import TEST, VAL
from cxr_keras.errors import DataError
from cxr_keras.evaluation.measured import Measured, images_to_measure
from cxr_keras.evaluation.medmnist import medmnist_sentence
from cxr_keras.evaluation.predictions import (
    PREVALENCE,
    columns_of,
    labels_of,
    patient_resampling,
)
from cxr_keras.evaluation.result import (
    CALIBRATED,
    Evaluation,
    frame_of,
    thresholds_of,
    write_evaluation,
)
from cxr_keras.evaluation.second_truth import (
    OWN_LABELS,
    SecondTruth,
    own_labels_table,
    with_either,
    with_truth,
)
from cxr_keras.inference.forward import forward_split
from cxr_keras.inference.guard import UNLIKE
from cxr_keras.inference.guarded import Guarded, read_guard
from cxr_keras.inference.options import FULL, NO_TTA, Precision, Tta
from cxr_keras.inference.tta import check_tta
from cxr_keras.metrics.conformal import held_share
from cxr_keras.metrics.options import RESAMPLES
from cxr_keras.metrics.per_label import prevalence_table
from cxr_keras.runs import model_file, run_folder
from cxr_keras.runs.card import Card
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import write_table


def evaluate(
    run: PathLike,
    data: Data | None = None,
    *,
    split: str | None = None,
    truth: PathLike | None = None,
    thresholds: float | str = CALIBRATED,
    resamples: int = RESAMPLES,
    force: bool = False,
    out: PathLike | None = None,
    tta: Tta = NO_TTA,
    precision: Precision = FULL,
    **reading: Unpack[ReadSettings],
) -> Evaluation:
    """Run a trained network over images and write predictions.csv and its tables.

    Args:
        run: a run folder or a `.keras` file.
        data: a data folder in a known layout (docs/datasets.md), or a `Dataset`; by default the
            data that the network was trained on. Other data is measured on the labels that both
            know.
        split: "train", "val", "test" or "all" of the data that the network was trained on, chosen
            as for its training; by default "test", which a network may lack. Of other data every
            image, which is the default ("all"), or one of its official lists where it has them.
        truth: another table of truth for the same images, such as radiologists' own labels: a CSV
            with a row an image. Only the images and labels in it are measured, and beside the
            network the data set's own labels.
        thresholds: from which probability a label is predicted positive: one number for all, or
            "calibrated" for those in the network's card (chosen on its validation split).
        resamples: of the bootstrap over patients; 0 for no intervals.
        force: measure images that the network was trained on, too.
        out: folder for the tables. By default beside the model for its own test split at its
            own thresholds, and in a folder evaluation-… beside it for anything else.
        tta: test-time augmentation: "flip" averages the probabilities of each image and of its
            mirror image. The network's own thresholds were chosen without it.
        precision: what the network computes in: "float32", or "bfloat16", which is faster where the
            machine multiplies in it.
        **reading: how the data is read, see `cxr_keras.data.reading.Reading`; by default the
            network's own as for its training.

    Raises:
        ModelError, DataError: the model or the data cannot be used, the network has no such split,
            or it was trained on some of these images.
        CxrError: there is no such `tta` or `precision`.
    """
    tta = check_tta(tta)
    file = model_file.find_model(run)
    card = model_file.read_card(file)
    limits = thresholds_of(card, thresholds)
    model = model_file.load_model(file, precision)
    how, data = Reading.of(reading)[0], as_data(data) or None
    measured = images_to_measure(file, card, data, split, how if how.said() else None)
    second = None if truth is None else with_truth(measured.images, Path(truth), card.labels)
    if second is not None:
        measured = replace(measured, images=second.images, about=(*measured.about, *second.about))
    chosen = measured.images
    refuse_trained_on(file, chosen, force=force)
    _say_tuned_on(file, measured)
    guard, labels, familiarity = read_guard(file), card.labels, None
    if guard is None:
        probability = forward_split(model, chosen, tta=tta)
    else:
        probability, familiarity = Guarded(model, guard).run_split(chosen, tta=tta)
    rates = card.data.get("base_rates")
    if second is not None and second.either_of:
        probability, labels = with_either(probability, labels, second.either_of)
        limits, rates = limits_of(limits, second.either_of), None
    predictions = frame_of(chosen, probability, labels)
    if familiarity is not None:
        predictions = predictions.assign(familiarity=familiarity)
    name = _name(measured, thresholds, tta, precision, truth)
    folder = Path(out) if out else run_folder.results_folder(file) / name
    for table in (PREVALENCE, OWN_LABELS):  # of an evaluation before this one
        (folder / table).unlink(missing_ok=True)
    sentences = [_phantom_sentence(card, measured), card.prevalence_notice]
    result = write_evaluation(
        predictions,
        folder,
        thresholds=limits,
        normal=card.normal,
        base_rates=rates,
        resamples=resamples,
        sentence="\n".join(filter(None, sentences)),
    )
    told = ""
    if second is not None:
        result = replace(result, own_labels=_own_labels(second, card, folder, resamples))
    elif measured.name == "chestmnist":
        run_name = run_folder.results_folder(file).name
        told = medmnist_sentence(predictions, folder, root=measured.root, run=run_name)
    more = (told, _guard_sentence(familiarity), _guarantee_sentence(predictions, card))
    result = replace(result, about=(*measured.about, *filter(None, more)))
    return result if measured.own else replace(result, prevalence=_prevalence(result, card))


def _guard_sentence(familiarity: np.ndarray | None) -> str:
    """How many images are unlike training; empty for a network without a guard."""
    if familiarity is None or not len(familiarity):
        return ""
    strange = int((familiarity < UNLIKE).sum())
    return (
        f"Unlike the images of training, by the network's guard: {strange:,} of "
        f"{len(familiarity):,} ({strange / len(familiarity):.1%}; 1% of validation images)."
    )


def _guarantee_sentence(predictions: pd.DataFrame, card: Card) -> str:
    """How many findings the label sets hold here; empty for a network without a guarantee."""
    known = [label for label in card.findings if f"prob_{label}" in predictions]
    if not card.guarantee or not known:
        return ""
    truth, probability = columns_of(predictions, known)
    patients = predictions[PATIENT] if PATIENT in predictions else np.arange(len(predictions))
    held, size = held_share(truth, probability, patients, threshold=card.guarantee["threshold"])
    if np.isnan(held):
        return ""
    return (
        f"Label sets (guarantee {card.guarantee['level']:.0%} for patients like those of "
        f"validation): {held:.1%} of a patient's findings on average, {size:.1f} of {len(known)} "
        "labels an image."
    )


def _prevalence(result: Evaluation, card: Card) -> pd.DataFrame:
    """Each label's share here and in training, written, too."""
    labels = labels_of(result.predictions)
    truth = columns_of(result.predictions, labels)[0]
    table = prevalence_table(truth, labels=labels, training=card.data.get("base_rates"))
    write_table(table, result.folder / PREVALENCE)
    return table


def _own_labels(
    second: SecondTruth, card: Card, folder: Path, resamples: int
) -> pd.DataFrame | None:
    """How the data set's own labels fare against another table, written, too.

    None where it knows none of the table's labels.
    """
    if np.isnan(second.own).all():
        return None
    patients = second.images.rows[PATIENT]
    with patient_resampling(resamples, 0) if resamples else nullcontext() as resampling:
        table = own_labels_table(second, patients, card.normal, resampling)
    write_table(table, folder / OWN_LABELS)
    return table


def _phantom_sentence(card: Card, measured: Measured) -> str:
    """What drawings among the images or in training mean for the numbers; empty without any."""
    if card.data.get("phantoms") and not measured.phantoms:
        return (
            "This network was trained on phantoms (synthetic drawings): its numbers on radiographs "
            "mean nothing."
        )
    return card.notice or ("These images are phantoms." if measured.phantoms else "")


def _name(
    measured: Measured,
    thresholds: float | str,
    tta: Tta,
    precision: Precision,
    truth: PathLike | None,
) -> str:
    """The folder of an evaluation beside the model; the model's own for its own test split."""
    parts = [] if measured.own else [measured.root.resolve().name]
    usual = measured.split == TEST and thresholds == CALIBRATED and truth is None
    usual = usual and tta == NO_TTA and precision == FULL and not measured.unlike
    parts += [measured.split] if parts or not usual else []
    parts += [measured.unlike] if measured.unlike else []
    parts += [f"at-{thresholds:g}"] if isinstance(thresholds, float | int) else []
    parts += [tta] if tta != NO_TTA else []
    parts += [precision] if precision != FULL else []
    parts += [f"by-{Path(truth).name.split('.')[0]}"] if truth is not None else []
    return "-".join(["evaluation", *parts]) if parts else "."


def limits_of(
    limits: float | dict[str, float], either_of: Mapping[str, Sequence[str]]
) -> float | dict[str, float]:
    """Thresholds, those of labels that mean any of several findings included: the lowest."""
    if not isinstance(limits, dict):
        return limits
    return limits | {name: min(limits[part] for part in either_of[name]) for name in either_of}


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
