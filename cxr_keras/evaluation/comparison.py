"""Two runs on the same images: which is better, and could it be luck?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import IMAGE, PATIENT
from cxr_keras.data.labels import normal_of
from cxr_keras.data.selection import artificial_prevalence
from cxr_keras.errors import DataError
from cxr_keras.evaluation.predictions import (
    OVER_IMAGES,
    columns_of,
    labels_of,
    patient_resampling,
    read_predictions,
)
from cxr_keras.metrics import bootstrap, per_label
from cxr_keras.metrics.options import RESAMPLES
from cxr_keras.runs import run_folder
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice


def compare(
    run_a: PathLike,
    run_b: PathLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare two runs by a paired bootstrap over patients.

    Args:
        run_a: a run folder, or a CSV with predictions and truth. Of a run without predictions of a
            test split those of its validation split count, with a notice.
        run_b: the other. Images that only one of them has are left out, with a notice.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        One row per label and the average rows: label, auroc_a, auroc_b, auroc_difference (B − A),
        its 95% interval auroc_low and auroc_high, auroc_p (two-sided); the same for ap.

    Raises:
        DataError: a file is missing, the two share no image or label, or differ in truth.
    """
    files = [_file_of(run) for run in (run_a, run_b)]
    _say_validation(run_a, run_b, files=files)
    table_a, table_b = map(_predictions, files)
    labels = [n for n in labels_of(table_a) if n in labels_of(table_b)]
    if not labels:
        raise DataError(
            f"{run_a} and {run_b} have no label in common. Name two that predict the same labels."
        )
    both = table_a[[IMAGE]].merge(table_b[[IMAGE]], on=IMAGE)[IMAGE]
    if both.empty:
        raise DataError(
            f"{run_a} and {run_b} have no image in common. Compare runs on the same split."
        )
    _say_prevalence(run_a, run_b)
    left_out = len(table_a) + len(table_b) - 2 * len(both)
    if left_out:
        notice(f"{left_out:,} images are in one of the two only: left out. {len(both):,} stay.")
    table_a = table_a.set_index(IMAGE).loc[both]
    table_b = table_b.set_index(IMAGE).loc[both]
    truth, probability_a = columns_of(table_a, labels)
    truth_b, probability_b = columns_of(table_b, labels)
    differs = (truth != truth_b) & ~(np.isnan(truth) & np.isnan(truth_b))
    if differs.any():
        changed = int(differs.any(axis=1).sum())
        raise DataError(
            f"{run_a} and {run_b} disagree about the truth of {changed:,} images, so they were "
            "measured on different label tables. Evaluate both again on one."
        )
    named = next((table for table in (table_a, table_b) if PATIENT in table.columns), None)
    if named is None:
        notice(OVER_IMAGES)
    patients = pd.Series(range(len(both))) if named is None else named[PATIENT]
    with patient_resampling(resamples, seed) as resampling:
        return bootstrap.paired_differences(
            truth,
            probability_a,
            probability_b,
            patients.to_numpy(),
            labels=labels,
            averages=per_label.average_rows(labels, normal_of(labels)),
            resampling=resampling,
        )


def _say_prevalence(*runs: PathLike) -> None:
    """Say it where average precision rests on a balanced choice; a CSV does not tell."""
    folders = [Path(run).expanduser() for run in runs]
    known = [run_folder.read_run(path) for path in folders if (path / run_folder.RUN).is_file()]
    for sentence in {artificial_prevalence(info.get("data", {})) for info in known} - {""}:
        notice(sentence)


def _say_validation(*runs: PathLike, files: Sequence[Path]) -> None:
    """Say it, once, where the validation split of a run folder stands in for a test split."""
    named = [
        str(run)
        for run, file in zip(runs, files, strict=True)
        if Path(run).expanduser() != file and file.name == run_folder.VAL_PREDICTIONS
    ]
    if named:
        notice(
            f"No predictions of a test split in {' and '.join(named)}: compared on the validation "
            "split, which chose epoch and thresholds, so it flatters."
        )


def _file_of(run: PathLike) -> Path:
    """The table of a run: of its test split, or where it has none of its validation split."""
    path = Path(run).expanduser()
    if not path.is_dir():
        return path
    file, instead = path / run_folder.PREDICTIONS, path / run_folder.VAL_PREDICTIONS
    return instead if instead.is_file() and not file.is_file() else file


def _predictions(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise DataError(
            f"There is no {file}. Name a finished run folder, or a CSV of predictions with truth; "
            "`cxr-keras evaluate` writes one."
        )
    table = read_predictions(file)
    repeated = table.loc[table[IMAGE].duplicated(), IMAGE]
    if len(repeated):
        raise DataError(f"{file} has an image twice: {repeated.iloc[0]}.")
    return table
