"""What a run came to on its test split, as the page browses it: predictions.csv and its tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from cxr_keras.data.dataset import AGE, GENDER, IMAGE, PATIENT, VIEW
from cxr_keras.data.demographics import groups_of
from cxr_keras.data.splits import TEST
from cxr_keras.errors import DataError
from cxr_keras.evaluation.predictions import (
    METRICS,
    PROBABILITY,
    SUBGROUPS,
    TRUTH,
    labels_of,
    read_predictions,
)
from cxr_keras.runs.card import Card
from cxr_keras.runs.model_file import MODEL
from cxr_keras.runs.run_folder import PREDICTIONS, VAL_PREDICTIONS, VALIDATION

BINS = 10  # of probabilities, as in reliability.csv


@dataclass(frozen=True)
class SplitResults:
    """The predictions of the split that a run is measured on.

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
    def of(cls, file: Path, card: Card) -> SplitResults | None:
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
        tables = [_table(folder / name) for name in (METRICS, SUBGROUPS)]
        return cls(card.measured_split, predictions.reset_index(drop=True), *tables)

    @property
    def images(self) -> list[str]:
        """The names of its images, in order."""
        return list(map(str, self.predictions[IMAGE]))

    def observed(self) -> dict[str, list[dict[str, Any]]]:
        """Label → bins of probabilities: of its images there, what share has the finding.

        The 95% interval is Wilson's, with patients counted in place of images: the images of one
        patient are alike. A bin without images is left out.
        """
        patients = self.predictions.get(PATIENT, pd.Series(range(len(self.predictions))))
        found = {}
        for label in labels_of(self.predictions):
            truth = self.predictions[TRUTH + label].to_numpy("float64")
            places = np.minimum(self.predictions[PROBABILITY + label] * BINS, BINS - 1).astype(int)
            bins = []
            for place in range(BINS):
                inside = ((places == place) & ~np.isnan(truth)).to_numpy()
                if not inside.any():
                    continue
                rate, number = float(truth[inside].mean()), int(patients[inside].nunique())
                interval = binomtest(round(rate * number), number).proportion_ci(method="wilson")
                bins.append(
                    {
                        "low": place / BINS,
                        "high": (place + 1) / BINS,
                        "images": int(inside.sum()),
                        "patients": number,
                        "rate": rate,
                        "rate_low": min(float(interval.low), rate),
                        "rate_high": max(float(interval.high), rate),
                    }
                )
            found[label] = bins
        return found

    def to_json(self, card: Card) -> dict[str, Any]:
        """All that the page needs to browse it: a list a column, labels in the card's order."""
        table = self.predictions
        labels = [label for label in card.labels if PROBABILITY + label in table]
        names = {"patient": PATIENT, "age": AGE, "sex": GENDER, "view": VIEW}
        about = {name: _column(table[one]) for name, one in names.items() if one in table}
        groups = groups_of(table)
        return {
            "split": self.split,
            "notice": card.split_notice,
            "labels": labels,
            "normal": card.normal,
            "thresholds": dict(zip(card.labels, card.thresholds, strict=True)),
            "images": {"image": self.images} | about,
            "groups": {name: list(groups[name]) for name in groups},
            "probabilities": {name: _column(table[PROBABILITY + name]) for name in labels},
            "truth": {name: _column(table[TRUTH + name]) for name in labels},
            "metrics": records_of(self.metrics),
            "subgroups": records_of(self.subgroups),
        }


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table for JSON: what is not known is None."""
    columns = {str(name): _column(table[name]) for name in table}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _column(values: pd.Series) -> list[Any]:
    return [None if pd.isna(value) else value for value in values.tolist()]


def _table(file: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(file)
    except (OSError, ValueError):
        return pd.DataFrame()
