"""Several runs as one: their mean probability, in a run folder like any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import IMAGE
from cxr_keras.data.splits import TEST, VAL
from cxr_keras.errors import RunError
from cxr_keras.evaluation.measured import data_of
from cxr_keras.evaluation.predictions import PROBABILITY, columns_of, read_predictions
from cxr_keras.evaluation.result import Evaluation, frame_of, write_own_evaluation
from cxr_keras.inference.forward import forward_split
from cxr_keras.metrics import per_label
from cxr_keras.metrics.options import RESAMPLES
from cxr_keras.metrics.thresholds import choose_thresholds
from cxr_keras.models.scaling import mean_of
from cxr_keras.runs import model_file, run_folder
from cxr_keras.runs.card import Card
from cxr_keras.runs.image_lists import ImageList
from cxr_keras.runs.options import RUNS_FOLDER
from cxr_keras.runs.run_folder import make_folder
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.changes import finish_change
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import atomic_folder, cannot_write, write_table


@dataclasses.dataclass(frozen=True)
class _Member:
    """A run of an ensemble: its folder, card, and predictions.

    Attributes:
        val: of the validation split.
        measured: of the split on which runs of this data are measured, see `Card.measured_split`.
    """

    folder: Path
    card: Card
    val: pd.DataFrame
    measured: pd.DataFrame


def ensemble(
    runs: Sequence[PathLike],
    *,
    name: str,
    weighted: bool = False,
    folder: PathLike = RUNS_FOLDER,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Average runs into one network, with thresholds of its own, and measure it.

    Args:
        runs: two or more finished run folders, trained on the same split of the same data. Of a
            calibrated one the calibrated probabilities are averaged; calibrate the result, too,
            if its probabilities are to be believed: a mean of calibrated ones is too cautious.
            They may be of several sizes, but of one fit: the ensemble takes images of the largest
            and scales them down for the others.
        name: of the new run folder.
        weighted: weigh each run by its macro AUROC on the validation split, in place of equally.
        folder: where the new run folder goes.
        resamples: of the bootstrap over patients.

    Returns:
        The test split, or the validation split where the members have no test split. The folder
        holds model.keras, whose outputs are the mean of the members'.

    Raises:
        RunError: fewer than two runs, one that is unfinished or moved to another prevalence, runs
            on different data or of different fit, or the folder exists.
        ModelError: a member's network cannot be loaded.
        DataError: members differ in size, and their data are not where they were.
    """
    target = Path(folder) / name
    if target.exists():
        raise RunError(f"The run folder {target} exists. Give another --name.")
    members = [_read_member(Path(run).expanduser()) for run in runs]
    _check_members(members)
    weights = _weights(members, weighted=weighted)
    network = mean_of(
        [model_file.load_model(member.folder) for member in members], weights.tolist()
    )
    lead = max(members, key=lambda member: member.card.framing.stored)  # the first of those
    val, measured = _predictions(members, lead, network, weights)
    labels = lead.card.labels
    limits, sentences = choose_thresholds(*columns_of(val, labels), labels=labels)
    for sentence in sentences:
        notice(sentence)
    described = [
        {"run": str(member.folder), "weight": round(float(weight), 6)}
        for member, weight in zip(members, weights, strict=True)
    ]
    settings = {"model": "ensemble", "members": described, "weighted": weighted}
    card = dataclasses.replace(
        lead.card, thresholds=limits, settings=settings, calibration={}, scaling={}
    )
    make_folder(target.parent, exist_ok=True)
    try:
        with atomic_folder(target) as new:  # whole or not at all
            result = _write(new, members, lead, network, card, val, measured, resamples=resamples)
    except OSError as error:
        raise RunError(cannot_write(target, error)) from error
    return dataclasses.replace(result, folder=target / result.folder.relative_to(new))


def _write(
    folder: Path,
    members: Sequence[_Member],
    lead: _Member,
    network: Any,
    card: Card,
    val: pd.DataFrame,
    measured: pd.DataFrame,
    *,
    resamples: int,
) -> Evaluation:
    """Everything that a run folder holds but what training leaves."""
    model_file.save_model(
        network,
        card,
        folder / model_file.MODEL,
        trained_on=_images(members, model_file.TRAINED_ON),
        tuned_on=_images(members, model_file.TUNED_ON),
    )
    write_table(val, folder / run_folder.VAL_PREDICTIONS)
    result = write_own_evaluation(measured, folder, card, resamples=resamples)
    data = run_folder.read_run(lead.folder)["data"]  # with the path, unlike the card
    info = {"status": "done", "notice": card.notice, "settings": card.settings, "data": data}
    info["thresholds"] = result.assessment.thresholds
    run_folder.write_run(folder, info)
    return result


def _images(members: Sequence[_Member], member: str) -> ImageList | None:
    """The images in any of the members' lists; None if one member has no list."""
    lists = [model_file.read_list(one.folder, member) for one in members]
    known = [images for images in lists if images is not None]
    return ImageList.joined(known) if len(known) == len(lists) else None


def _read_member(folder: Path) -> _Member:
    finish_change(folder / model_file.MODEL)
    _check_there(folder, run_folder.VAL_PREDICTIONS)
    if run_folder.read_run(folder).get("status") != "done":
        raise RunError(_cannot_join(folder, "it is not finished"))
    card = model_file.read_card(folder)
    val = measured = read_predictions(folder / run_folder.VAL_PREDICTIONS)
    if card.measured_split == TEST:
        _check_there(folder, run_folder.PREDICTIONS)
        measured = read_predictions(folder / run_folder.PREDICTIONS)
    return _Member(folder, card, val, measured)


def _check_there(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise RunError(_cannot_join(folder, f"it lacks {name}"))


def _cannot_join(folder: Path, why: str) -> str:
    return f"{folder} cannot join an ensemble: {why}. Train it to its end first."


def _check_members(members: Sequence[_Member]) -> None:
    if len(members) < 2:
        raise RunError(f"An ensemble needs two runs or more. Received: {len(members)}.")
    folders = [member.folder.resolve() for member in members]
    if len(set(folders)) < len(folders):
        raise RunError("A run is named twice; name each member of an ensemble once.")
    calibrated = [
        bool(member.card.scaling) or member.card.calibration.get("method", "none") != "none"
        for member in members
    ]
    if any(calibrated) and not all(calibrated):
        notice("Some of these runs are calibrated and some are not: their mean is neither.")
    first = members[0]
    for member in members:
        if member.card.calibration.get("prevalence"):
            raise RunError(
                f"{member.folder} was moved to another prevalence, which an ensemble would mix "
                f"with its members' own. Run `cxr-keras calibrate {member.folder}` without "
                "--prevalence first, and move the ensemble afterwards."
            )
        if member.card.framing.fit != first.card.framing.fit:
            fits = f"{member.card.framing.fit} and {first.card.framing.fit}"
            raise RunError(
                f"{member.folder} and {first.folder} see different parts of an image (--fit "
                f"{fits}), so no image fits both. Name runs of one fit."
            )
        if not _same_data(member, first):
            raise RunError(
                f"{member.folder} and {first.folder} were trained on different data or splits, so "
                "one may have seen what the other is tested on. Train them with the same --data, "
                "--split, --per-class, --val-share, --test-share and --data-seed."
            )


def _same_data(one: _Member, other: _Member) -> bool:
    """Whether two runs had the same images, with the same labels, in the same splits."""
    data, theirs = one.card.data, other.card.data
    # a fingerprint is of pixels, which differ with the size
    if one.card.framing == other.card.framing:
        known = data.get("fingerprint") == theirs.get("fingerprint")
    else:
        known = data.get("split_digest") == theirs.get("split_digest")
    return (
        known
        and one.card.labels == other.card.labels
        and all(
            list(a[IMAGE]) == list(b[IMAGE]) and _truth(a, one.card).equals(_truth(b, one.card))
            for a, b in ((one.val, other.val), (one.measured, other.measured))
        )
    )


def _truth(table: pd.DataFrame, card: Card) -> pd.DataFrame:
    return pd.DataFrame(columns_of(table, card.labels)[0])


def _weights(members: Sequence[_Member], *, weighted: bool) -> np.ndarray:
    """A weight a member; they sum to 1."""
    raw = np.ones(len(members))
    if weighted:
        for i, member in enumerate(members):
            labels = member.card.labels
            truth, probability = columns_of(member.val, labels)
            table = per_label.label_table(
                truth, probability, labels=labels, normal=member.card.normal
            )
            raw[i] = per_label.average(table, "auroc")
        if not np.isfinite(raw).all():
            raise RunError("The validation split has no AUROC to weigh by; leave --weighted out.")
    weights: np.ndarray = raw / raw.sum()
    return weights


def _predictions(
    members: Sequence[_Member], lead: _Member, network: Any, weights: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The ensemble's predictions of the validation split, and of that on which it is measured.

    They are the mean of the members'. Where members differ in size, the network is run: an image
    that was scaled down in it is not quite one that was read at that size.
    """
    if len({member.card.framing for member in members}) == 1:
        tables = [member.val for member in members], [member.measured for member in members]
        columns = [PROBABILITY + label for label in lead.card.labels]
        val, measured = (_mean(own, columns, weights.tolist()) for own in tables)
        return val, measured
    prepared = data_of(lead.folder / model_file.MODEL, lead.card, None)
    if prepared.fingerprint != lead.card.data.get("fingerprint"):
        raise RunError(
            f"{lead.folder} was not trained on {prepared.root} as it is now, so an ensemble of "
            "several sizes, which runs over it, cannot be measured. Bring the old data back."
        )
    splits = [prepared.split(name) for name in (VAL, lead.card.measured_split)]
    labels = lead.card.labels
    val, measured = (frame_of(split, forward_split(network, split), labels) for split in splits)
    return val, measured


def _mean(
    tables: Sequence[pd.DataFrame], columns: list[str], weights: Sequence[float]
) -> pd.DataFrame:
    stacked = np.stack([table[columns].to_numpy() for table in tables])
    mean = np.clip(np.tensordot(weights, stacked, axes=1), 0.0, 1.0)
    result = tables[0].drop(columns="familiarity", errors="ignore")  # a member's guard's
    result[columns] = mean
    return result
