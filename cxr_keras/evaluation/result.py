"""What a set of predictions came to, and the folder that it is written into."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import AGE, GENDER, IMAGE, PATIENT, VIEW
from cxr_keras.data.preparation import PreparedSplit
from cxr_keras.data.splits import TEST
from cxr_keras.errors import DataError
from cxr_keras.evaluation.predictions import (
    PROBABILITY,
    assess,
    columns_of,
    truth_columns,
    write_assessment,
)
from cxr_keras.metrics import per_label
from cxr_keras.metrics.assessment import Assessment
from cxr_keras.metrics.options import RESAMPLES
from cxr_keras.runs import run_folder
from cxr_keras.runs.card import Card
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
        own_labels: measured against another table of truth: how the data set's own labels fare,
            see `second_truth.own_labels_table`.
    """

    predictions: pd.DataFrame
    assessment: Assessment
    folder: Path
    notice: str = ""
    about: tuple[str, ...] = ()
    prevalence: pd.DataFrame | None = None
    own_labels: pd.DataFrame | None = None

    @property
    def metrics(self) -> pd.DataFrame:
        """The per-label table, see `Assessment.metrics`."""
        return self.assessment.metrics

    @property
    def loss(self) -> float:
        """Mean binary cross-entropy over images and labels."""
        return self.assessment.loss


def write_evaluation(
    predictions: pd.DataFrame,
    folder: Path,
    *,
    thresholds: float | Mapping[str, float],
    normal: str | None,
    base_rates: Mapping[str, float] | None = None,
    resamples: int = RESAMPLES,
    sentence: str = "",
    keep_predictions: bool = True,
) -> Evaluation:
    """Assess predictions, and write them and their tables into `folder`."""
    found = assess(
        predictions,
        thresholds=thresholds,
        normal=normal,
        base_rates=base_rates,
        resamples=resamples,
    )
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
        normal=card.normal,
        base_rates=card.data.get("base_rates"),
        resamples=resamples,
        sentence="\n".join(filter(None, [card.notice, card.split_notice, card.prevalence_notice])),
        keep_predictions=tested,
    )


def averages_of(val: pd.DataFrame, evaluation: Evaluation, card: Card) -> dict[str, Any]:
    """What run.json says of the validation and the test split: means over the findings.

    Args:
        val: predictions of the validation split.
        evaluation: of `card.measured_split`.
        card: of the network.
    """
    table = per_label.label_table(
        *columns_of(val, card.labels),
        labels=card.labels,
        normal=card.normal,
        thresholds=card.thresholds,
    )
    tested = card.measured_split == TEST
    return {
        "val_averages": _averages(table),
        "test_averages": _averages(evaluation.metrics) if tested else None,
    }


def _averages(table: pd.DataFrame) -> dict[str, float | None]:
    """Of each measure its mean over the findings, None where no finding defines it."""
    means = {measure: per_label.average(table, measure) for measure in per_label.MEASURES}
    return {name: None if math.isnan(mean) else round(mean, 6) for name, mean in means.items()}


def frame_of(images: PreparedSplit, probability: np.ndarray, labels: Sequence[str]) -> pd.DataFrame:
    """Predictions of a split as predictions.csv has them.

    Args:
        images: the split; of labels that it does not know there is no column.
        probability: (n, n_labels).
        labels: names of the columns of `probability`.
    """
    shared = [label for label in labels if label in images.labels]
    truth = images.truth[:, [images.labels.index(label) for label in shared]]
    columns = {PROBABILITY + name: probability[:, labels.index(name)] for name in shared}
    about = [n for n in (IMAGE, "split", PATIENT, AGE, GENDER, VIEW) if n in images.rows.columns]
    return pd.concat(
        [
            images.rows[about],
            pd.DataFrame(columns, index=images.rows.index),
            truth_columns(truth, shared),
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
