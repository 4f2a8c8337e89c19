"""The per-label table once more for each subgroup of the images, such as each view and sex."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr_keras.metrics import bootstrap, per_label
from cxr_keras.metrics.interval_table import interval_table

MEASURES = ("precision", "recall", "f1", "auroc", "ap")
MIN_PATIENTS = 10  # of a subgroup that is measured: what fewer score is chance, and may name them


def subgroup_table(
    groups: pd.DataFrame,
    truth: np.ndarray,
    probability: np.ndarray,
    patients: pd.Series,
    *,
    labels: Sequence[str],
    normal: str | None,
    thresholds: Sequence[float],
    resampling: bootstrap.Resampling | None = None,
) -> pd.DataFrame:
    """Metrics of every subgroup, with intervals over its own patients.

    Args:
        groups: one row per image, one column per way to group them (such as "view"), which holds
            the name of the image's subgroup.
        truth: (n_samples, n_labels), 1, 0 or NaN (unknown).
        probability: the same shape, in 0…1.
        patients: the patient of each image.
        labels: names of the columns of both arrays.
        normal: the label that says that there is no finding, if one of them does.
        thresholds: one per label.
        resampling: of the bootstrap; None leaves the intervals out.

    Returns:
        Columns group, value (the subgroup), images and patients (of the whole subgroup), then those
        of `interval_table`; empty if `groups` has no column. A subgroup of fewer than
        `MIN_PATIENTS` has no measures, only its support and of how many images each label is known.
    """
    tables = []
    for name in groups.columns:
        for value in sorted(groups[name].unique()):
            inside = (groups[name] == value).to_numpy()
            number = patients[inside].nunique()
            enough = number >= MIN_PATIENTS
            if not enough and resampling is not None and resampling.progress is not None:
                resampling.progress(resampling.resamples)
            table = interval_table(
                truth[inside],
                probability[inside],
                patients[inside],
                labels=labels,
                normal=normal,
                thresholds=thresholds,
                resampling=resampling if enough else None,
            )
            if not enough:
                _erase(table)
            table.insert(0, "patients", number)
            table.insert(0, "images", int(inside.sum()))
            table.insert(0, "value", value)
            table.insert(0, "group", name)
            tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _erase(table: pd.DataFrame) -> None:
    """Make every measure undefined, and each number of labels averaged 0."""
    counts = table["label"].str.endswith(per_label.DEFINED_SUFFIX)
    table.loc[~counts, list(per_label.MEASURES)] = np.nan
    table.loc[counts, list(per_label.MEASURES)] = 0


def overview(table: pd.DataFrame, average: str) -> pd.DataFrame:
    """One row per subgroup: its images, and the measures of one average row.

    Args:
        table: of `subgroup_table`.
        average: the name of the average row, see `per_label.average_rows`.

    Returns:
        Columns group, value, images, patients, support, precision, recall, f1, auroc, ap, their
        bounds if `table` has them, and labels: how many of the average's labels have both classes
        in the subgroup, and so an AUROC.
    """
    if table.empty:
        return table
    chosen = table[table["label"] == average]
    counts = table.loc[table["label"] == average + per_label.DEFINED_SUFFIX, "auroc"]
    measures = [name for name in chosen if name in MEASURES or name.endswith(("_low", "_high"))]
    columns = ["group", "value", "images", "patients", "support", *measures]
    return chosen[columns].assign(labels=counts.astype(int).to_numpy()).reset_index(drop=True)
