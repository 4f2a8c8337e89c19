"""What a run kept of its evaluation: the predictions of its test split and their tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxr_keras.data.dataset import PATIENT
from cxr_keras.data.demographics import groups_of
from cxr_keras.data.splits import TEST
from cxr_keras.errors import DataError
from cxr_keras.evaluation.predictions import METRICS, SUBGROUPS, read_predictions
from cxr_keras.runs.card import Card
from cxr_keras.runs.model_file import MODEL
from cxr_keras.runs.run_folder import PREDICTIONS, VAL_PREDICTIONS, VALIDATION


@dataclass(frozen=True)
class Kept:
    """The tables of the split that a run is measured on.

    Attributes:
        split: "test", or "val" for a run without a test split.
        predictions: as predictions.csv has them.
        metrics: the per-label table; empty where there is none.
        subgroups: the same a subgroup; empty where there is none.
    """

    split: str
    predictions: pd.DataFrame
    metrics: pd.DataFrame
    subgroups: pd.DataFrame

    @classmethod
    def of(cls, file: Path, card: Card) -> Kept | None:
        """Those beside a run's model file; None for a file on its own, or without predictions."""
        tested = card.measured_split == TEST
        table = file.parent / (PREDICTIONS if tested else VAL_PREDICTIONS)
        if file.name != MODEL or not table.is_file():
            return None
        try:
            predictions = read_predictions(table)
        except DataError:
            return None
        folder = file.parent if tested else file.parent / VALIDATION
        metrics, subgroups = (_table(folder / name) for name in (METRICS, SUBGROUPS))
        subgroups = _with_patients(subgroups, predictions)
        return cls(card.measured_split, predictions.reset_index(drop=True), metrics, subgroups)


def _table(file: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(file)
    except (OSError, ValueError):
        return pd.DataFrame()


def _with_patients(subgroups: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """The first tables of subgroups did not say how many patients each has."""
    if subgroups.empty or "patients" in subgroups:
        return subgroups
    groups = groups_of(predictions)
    counts = {
        (group, value): number
        for group in groups
        for value, number in predictions.groupby(groups[group])[PATIENT].nunique().items()
    }
    pairs = zip(subgroups["group"], subgroups["value"], strict=True)
    return subgroups.assign(patients=[counts.get(pair) for pair in pairs])
