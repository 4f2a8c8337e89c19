"""The per-label table once more for each subgroup of the images, such as each view and sex."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr_keras.metrics import per_label


def subgroup_table(
    groups: pd.DataFrame,
    truth: np.ndarray,
    probability: np.ndarray,
    *,
    labels: Sequence[str],
    normal: str | None,
    thresholds: Sequence[float],
) -> pd.DataFrame:
    """Metrics of every subgroup.

    Args:
        groups: one row per image, one column per way to group them (such as "view"), which holds
            the name of the image's subgroup.
        truth: (n_samples, n_labels), 0 or 1.
        probability: the same shape, in 0…1.
        labels: names of the columns of both arrays.
        normal: the label that says that there is no finding, if one of them does.
        thresholds: one per label.

    Returns:
        Columns group, value (the subgroup), images, then those of `per_label.label_table`; empty
        if `groups` has no column.
    """
    tables = []
    for name in groups.columns:
        for value in sorted(groups[name].unique()):
            inside = (groups[name] == value).to_numpy()
            table = per_label.label_table(
                truth[inside],
                probability[inside],
                labels=labels,
                normal=normal,
                thresholds=thresholds,
            )
            table.insert(0, "images", int(inside.sum()))
            table.insert(0, "value", value)
            table.insert(0, "group", name)
            tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def overview(table: pd.DataFrame, average: str) -> pd.DataFrame:
    """One row per subgroup: its images, and the measures of one average row.

    Args:
        table: of `subgroup_table`.
        average: the name of the average row, see `per_label.average_rows`.

    Returns:
        Columns group, value, images, support, precision, recall, f1, auroc, ap, and labels: how
        many of the average's labels have both classes in the subgroup, and so an AUROC.
    """
    if table.empty:
        return table
    chosen = table[table["label"] == average]
    counts = table.loc[table["label"] == average + per_label.DEFINED_SUFFIX, "auroc"]
    columns = ["group", "value", "images", "support", "precision", "recall", "f1", "auroc", "ap"]
    return chosen[columns].assign(labels=counts.astype(int).to_numpy()).reset_index(drop=True)
