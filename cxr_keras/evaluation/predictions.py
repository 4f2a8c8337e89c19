"""The table of predictions: as a file, measured, and its tables written into a folder.

One row per image: "Image Index", prob_<label> and true_<label> columns, and what is known of the
patient. No network and no image is needed to measure it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras import plots
from cxr_keras.data.dataset import IMAGE, PATIENT
from cxr_keras.data.demographics import groups_of
from cxr_keras.data.labels import NO_FINDING, canonical_label
from cxr_keras.errors import DataError
from cxr_keras.metrics import per_label
from cxr_keras.metrics.assessment import Assessment, assess_arrays
from cxr_keras.metrics.bootstrap import Resampling
from cxr_keras.metrics.options import RESAMPLES
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice, progress_bar
from cxr_keras.utils.files import write_table

PROBABILITY, TRUTH = "prob_", "true_"
METRICS, EXAMPLE_BASED = "metrics.csv", "samplewise.csv"
COOCCURRENCE, SUBGROUPS = "cooccurrence.csv", "subgroups.csv"
PREVALENCE = "prevalence.csv"  # of other data than the network was trained on
OVER_IMAGES = (
    f"No column {PATIENT!r}: the intervals are over images, and may be too narrow, because the "
    "images of one patient are alike."
)
RELIABILITY, RELIABILITY_PLOT = "reliability.csv", "reliability.png"


def assess(
    predictions: pd.DataFrame,
    *,
    thresholds: float | Mapping[str, float] = 0.5,
    normal: str | None = NO_FINDING,
    base_rates: Mapping[str, float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Assessment:
    """Measure a table of predictions.

    Args:
        predictions: prob_<label> and true_<label> columns; "Patient ID" for intervals over
            patients (without it they are over images, which a notice says); NIH's view, sex and
            age columns for subgroups.
        thresholds: from which probability a label is predicted positive: one for all labels, or
            one per label.
        normal: the label that says that there is no finding, if the table has it.
        base_rates: label → share of the training images, for the baseline row.
        resamples: of the bootstrap; 0 leaves the intervals out.
        seed: of the bootstrap.

    Raises:
        DataError: a column is missing, a value is out of range, NaN or infinite, or `thresholds`
            or `base_rates` lack a label of the table.
    """
    labels = labels_of(predictions)
    truth, probability = columns_of(predictions, labels)
    limits = (
        _by_label("thresholds", thresholds, labels)
        if isinstance(thresholds, Mapping)
        else [thresholds] * len(labels)
    )
    if resamples and PATIENT not in predictions.columns:
        notice(OVER_IMAGES)
    groups = groups_of(predictions)
    tables = 1 + int(groups.nunique().sum())
    with patient_resampling(resamples, seed, tables) if resamples else nullcontext() as resampling:
        return assess_arrays(
            truth,
            probability,
            labels=labels,
            normal=normal,
            thresholds=limits,
            patients=predictions.get(PATIENT, pd.Series(range(len(predictions)))),
            groups=groups,
            base_rates=_by_label("base_rates", base_rates, labels) if base_rates else None,
            resampling=resampling,
        )


def _by_label(what: str, values: Mapping[str, float], labels: Sequence[str]) -> list[float]:
    """The values of `labels`, in their order."""
    missing = [name for name in labels if name not in values]
    if missing:
        raise DataError(
            f"The {what} lack {', '.join(missing)}, which the predictions have. Give a number for "
            f"each label. Received: {', '.join(values) or 'none'}."
        )
    return [values[name] for name in labels]


@contextmanager
def patient_resampling(resamples: int, seed: int, tables: int = 1) -> Iterator[Resampling]:
    """Settings of a bootstrap over patients, with a progress bar for the body's duration.

    Args:
        resamples: of the bootstrap.
        seed: of the bootstrap.
        tables: how many tables are resampled with these settings.
    """
    with progress_bar("Bootstrap over patients", resamples * tables) as bar:
        yield Resampling(resamples, seed, progress=bar.advance)


def write_assessment(found: Assessment, folder: Path) -> None:
    """Write every table as CSV, and the reliability diagram, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(found.metrics, folder / METRICS)
    write_table(found.example_based, folder / EXAMPLE_BASED)
    write_table(found.cooccurrence.reset_index(), folder / COOCCURRENCE)
    write_table(found.reliability, folder / RELIABILITY)
    if found.subgroups.empty:
        (folder / SUBGROUPS).unlink(missing_ok=True)  # of an evaluation before this one
    else:
        write_table(found.subgroups, folder / SUBGROUPS)
    figure = plots.reliability_figure(found.reliability)
    plots.save_figure(figure, folder / RELIABILITY_PLOT, trimmed=False)


def labels_of(predictions: pd.DataFrame) -> tuple[str, ...]:
    """The labels of the prob_ columns, in their order."""
    return tuple(
        name.removeprefix(PROBABILITY)
        for name in predictions.columns
        if name.startswith(PROBABILITY)
    )


def columns_of(predictions: pd.DataFrame, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Truth (NaN where it is not known) and probabilities, (n_samples, n_labels), checked.

    Raises:
        DataError: a column is missing, a value is out of range or infinite, or a probability NaN.
    """
    names = [*(PROBABILITY + n for n in labels), *(TRUTH + n for n in labels)]
    absent = [name for name in names if name not in predictions.columns]
    if absent or not labels:
        wanted = ", ".join(absent) or f"{PROBABILITY}<label>"
        raise DataError(f"The table of predictions lacks the column {wanted}.")
    truth = predictions[[TRUTH + name for name in labels]].to_numpy(float, na_value=np.nan)
    probability = predictions[[PROBABILITY + name for name in labels]].to_numpy()
    return truth, per_label.checked(truth, probability, len(labels)).probability


def truth_columns(truth: np.ndarray, labels: Sequence[str]) -> pd.DataFrame:
    """true_<label> columns of 0 and 1, empty where it is not known.

    Args:
        truth: (n, n_labels): 1, 0, or NaN.
        labels: names of its columns.
    """
    table = pd.DataFrame(truth, columns=[TRUTH + label for label in labels])
    return table.astype({n: "Int64" if table[n].isna().any() else "int64" for n in table.columns})


def read_predictions(source: PathLike) -> pd.DataFrame:
    """Read a CSV of predictions, the labels' names in their own spelling.

    Takes what `predict --csv` writes, too: "path" names its images, failed rows are left out.

    Raises:
        DataError: it cannot be read, lacks "Image Index" or every prob_<label> column, two columns
            name one label, or a value is no number in 0…1 (that of a truth may be empty).
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


def _own_spelling(source: PathLike, table: pd.DataFrame) -> dict[str, str]:
    """prob_ and true_ columns as they are → with the labels' own spelling."""
    names: dict[str, str] = {}
    for name in table.columns:
        kind = next((k for k in (PROBABILITY, TRUTH) if name.startswith(k)), None)
        if kind is None:
            continue
        label = canonical_label(name.removeprefix(kind)) or name.removeprefix(kind).strip()
        if kind + label in names.values():
            raise DataError(f"{source} has two columns for {label} (one is {name}). Remove one.")
        names[name] = kind + label
    return names


def _numbers(source: PathLike, table: pd.DataFrame, name: str) -> pd.Series:
    numbers = pd.to_numeric(table[name], errors="coerce")
    bad = ~numbers.between(0, 1)  # NaN and infinite values too
    if name.startswith(TRUTH):  # nobody may know it
        bad &= ~(numbers.isna() & table[name].isna())
    if bad.any():
        row = table[bad].iloc[0]
        raise DataError(
            f"{source}: {name} must be a number in 0…1; for {int(bad.sum()):,} images it is not. "
            f"Received: {row[name]} for {row[IMAGE]}."
        )
    return numbers
