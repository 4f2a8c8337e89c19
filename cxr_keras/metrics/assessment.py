"""Everything that a table of predictions says: measures, intervals, calibration, subgroups.

Needs no network and no image, so tables can be made again from `predictions.csv` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras import plots
from cxr_keras.data.labels import LABELS, canonical_label
from cxr_keras.data.readers.nih import IMAGE, PATIENT
from cxr_keras.errors import DataError
from cxr_keras.metrics import bootstrap, calibration, example_based, per_label, subgroups
from cxr_keras.utils.console import notice, progress_bar
from cxr_keras.utils.files import atomic_file

PROBABILITY, TRUTH = "prob_", "true_"
RESAMPLES = 1000
METRICS, SAMPLEWISE = "metrics.csv", "samplewise.csv"
COOCCURRENCE, SUBGROUPS = "cooccurrence.csv", "subgroups.csv"
RELIABILITY, RELIABILITY_PLOT = "reliability.csv", "reliability.png"


@dataclass(frozen=True)
class Assessment:
    """The tables of one set of predictions.

    Attributes:
        labels: the labels measured, in order.
        thresholds: label → the probability from which it is called.
        metrics: `per_label.label_table` with intervals (auroc_low … ap_high), brier, ece and
            threshold; then the baselines' rows.
        samplewise: measures over images in place of labels, see `samplewise`.
        cooccurrence: images by true label and called label.
        subgroups: `per_label.label_table` by view, sex and age band; empty without such columns.
        reliability: observed rate against mean probability, by bin.
        loss: mean binary cross-entropy over images and labels.
        images: how many.
        contradictions: images where No Finding is called beside a finding.
        silent: images where nothing is called.
    """

    labels: tuple[str, ...]
    thresholds: dict[str, float]
    metrics: pd.DataFrame
    samplewise: pd.DataFrame
    cooccurrence: pd.DataFrame
    subgroups: pd.DataFrame
    reliability: pd.DataFrame
    loss: float
    images: int
    contradictions: int
    silent: int

    def write(self, folder: Path) -> None:
        """Write every table as CSV, and the reliability diagram, into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_table(self.metrics, folder / METRICS)
        write_table(self.samplewise, folder / SAMPLEWISE)
        write_table(self.cooccurrence.reset_index(), folder / COOCCURRENCE)
        write_table(self.reliability, folder / RELIABILITY)
        if self.subgroups.empty:
            (folder / SUBGROUPS).unlink(missing_ok=True)  # of an evaluation before this one
        else:
            write_table(self.subgroups, folder / SUBGROUPS)
        plots.save_figure(plots.reliability_figure(self.reliability), folder / RELIABILITY_PLOT)


def assess(
    predictions: pd.DataFrame,
    *,
    thresholds: float | Mapping[str, float] = 0.5,
    base_rates: Mapping[str, float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Assessment:
    """Measure a table of predictions.

    Args:
        predictions: prob_<label> and true_<label> columns; "Patient ID" for intervals over
            patients (without it each image counts as a patient); NIH's view, sex and age columns
            for subgroups.
        thresholds: from which probability a label is called, one for all or one a label.
        base_rates: label → share of the training images, for the baseline row.
        resamples: of the bootstrap; 0 leaves the intervals out.
        seed: of the bootstrap.

    Raises:
        DataError: a column is missing, or a value is out of range, NaN or infinite.
    """
    labels = labels_of(predictions)
    truth, probability = columns_of(predictions, labels)
    limits = [thresholds[n] if isinstance(thresholds, Mapping) else thresholds for n in labels]
    called = probability >= np.array(limits)
    table = per_label.label_table(truth, probability, thresholds=limits, labels=labels)
    if resamples:
        patients = predictions.get(PATIENT, pd.Series(range(len(predictions))))
        table = _with_intervals(table, truth, probability, patients, labels, resamples, seed)
    table = _with_calibration(table, truth, probability, labels)
    table["threshold"] = table["label"].map(dict(zip(labels, limits, strict=True)))
    rates = [base_rates[name] for name in labels] if base_rates else None
    floor = per_label.baselines(truth, base_rates=rates, labels=labels)
    return Assessment(
        labels=labels,
        thresholds=dict(zip(labels, map(float, limits), strict=True)),
        metrics=pd.concat([table, floor], ignore_index=True),
        samplewise=_samplewise(truth, called, probability),
        cooccurrence=example_based.cooccurrence(truth, called, labels),
        subgroups=subgroups.subgroup_table(
            predictions, truth, probability, thresholds=limits, labels=labels
        ),
        reliability=calibration.reliability_table(truth, probability, labels=labels),
        loss=per_label.binary_cross_entropy(truth, probability),
        images=len(predictions),
        contradictions=example_based.contradictions(called, labels),
        silent=example_based.silent(called),
    )


def _samplewise(truth: np.ndarray, called: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    """The measures over images, and what always answering "no" would score."""
    table = example_based.samplewise_table(truth, called, probability)
    nothing = np.zeros_like(probability)
    floor = example_based.samplewise_table(truth, nothing.astype(bool), nothing)
    table.insert(2, 'always "no"', floor["value"])
    return table


def labels_of(predictions: pd.DataFrame) -> tuple[str, ...]:
    """The labels of the prob_ columns, in their order."""
    return tuple(
        name.removeprefix(PROBABILITY)
        for name in predictions.columns
        if name.startswith(PROBABILITY)
    )


def columns_of(predictions: pd.DataFrame, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities, (n_samples, n_labels), checked.

    Raises:
        DataError: a column is missing, or a value is out of range, NaN or infinite.
    """
    names = [*(PROBABILITY + n for n in labels), *(TRUTH + n for n in labels)]
    absent = [name for name in names if name not in predictions.columns]
    if absent or not labels:
        wanted = ", ".join(absent) or f"{PROBABILITY}<label>"
        raise DataError(f"The table of predictions lacks the column {wanted}.")
    truth = predictions[[TRUTH + name for name in labels]].to_numpy()
    probability = predictions[[PROBABILITY + name for name in labels]].to_numpy()
    return per_label.checked(truth, probability, len(labels))


def read_predictions(source: str | Path) -> pd.DataFrame:
    """Read a CSV of predictions, the labels' names in their own spelling.

    Takes what `predict --csv` writes, too: "path" names its images, failed rows are left out.

    Raises:
        DataError: it cannot be read, lacks "Image Index" or every prob_<label> column, a column
            names none of the labels or one twice, or a value is no number in 0…1.
    """
    try:
        table = pd.read_csv(source, dtype={IMAGE: str, PATIENT: str, "path": str})
    except (OSError, ValueError) as error:
        raise DataError(f"{source} cannot be read as a table ({str(error).strip()}).") from error
    if IMAGE not in table.columns and "path" in table.columns:
        table = table.rename(columns={"path": IMAGE})
        table[IMAGE] = [Path(str(path)).name for path in table[IMAGE]]
        if "error" in table.columns and table["error"].notna().any():
            notice(f"{table['error'].notna().sum():,} images of {source} were not read: left out.")
            table = table[table["error"].isna()].reset_index(drop=True)
    missing = [] if IMAGE in table.columns else [IMAGE]
    missing += [] if labels_of(table) else [f"{PROBABILITY}<label>"]
    if missing:
        raise DataError(
            f"{source} lacks the column {' and '.join(missing)}. "
            f"Received the columns: {', '.join(table.columns[:8])}."
        )
    table = table.rename(columns=_own_spelling(source, table))
    for name in table.columns:
        if name.startswith((PROBABILITY, TRUTH)):
            table[name] = _numbers(source, table, name)
    return table


def _own_spelling(source: str | Path, table: pd.DataFrame) -> dict[str, str]:
    """prob_ and true_ columns as they are → with the labels' own spelling."""
    names: dict[str, str] = {}
    for name in table.columns:
        kind = next((k for k in (PROBABILITY, TRUTH) if name.startswith(k)), None)
        if kind is None:
            continue
        label = canonical_label(name.removeprefix(kind))
        if label is None:
            raise DataError(
                f"{source} has the column {name}, which names none of the labels: "
                f"{', '.join(LABELS)}."
            )
        if kind + label in names.values():
            raise DataError(f"{source} has two columns for {label} (one is {name}). Remove one.")
        names[name] = kind + label
    return names


def _numbers(source: str | Path, table: pd.DataFrame, name: str) -> pd.Series:
    numbers = pd.to_numeric(table[name], errors="coerce")
    bad = ~numbers.between(0, 1)  # NaN and infinite values too
    if bad.any():
        row = table[bad].iloc[0]
        raise DataError(
            f"{source}: {name} must be a number in 0…1; for {int(bad.sum()):,} images it is not. "
            f"Received: {row[name]} for {row[IMAGE]}."
        )
    return numbers


def write_table(table: pd.DataFrame, target: Path) -> None:
    """Write a CSV, atomically, seven digits a number."""
    with atomic_file(target) as temporary:
        table.to_csv(temporary, index=False, float_format="%.7g")


def _with_intervals(
    table: pd.DataFrame,
    truth: np.ndarray,
    probability: np.ndarray,
    patients: pd.Series,
    labels: Sequence[str],
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    with progress_bar("Bootstrap over patients", resamples) as bar:
        found = bootstrap.intervals(
            truth,
            probability,
            patients.to_numpy(),
            labels=labels,
            averages=per_label.average_rows(labels),
            resamples=resamples,
            seed=seed,
            progress=bar.advance,
        )
    bounds = found[["label", "auroc_low", "auroc_high", "ap_low", "ap_high"]]
    return table.merge(bounds, on="label", how="left")


def _with_calibration(
    table: pd.DataFrame, truth: np.ndarray, probability: np.ndarray, labels: Sequence[str]
) -> pd.DataFrame:
    values = {
        "brier": calibration.brier_score(truth, probability),
        "ece": calibration.expected_calibration_error(truth, probability),
    }
    for name, column in values.items():
        by_row = dict(zip(labels, column, strict=True))
        for row, places in per_label.average_rows(labels).items():
            by_row[row] = column[places].mean()
        table[name] = table["label"].map(by_row)
    return table
