"""The per-label table once more for each view, sex and age band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr_keras.data.readers.nih import AGE, GENDER, VIEW
from cxr_keras.metrics import per_label

AGE_BANDS = (("0–17", 0, 17), ("18–39", 18, 39), ("40–64", 40, 64), ("65 and over", 65, 120))
UNKNOWN = "unknown"


def groups_of(images: pd.DataFrame) -> pd.DataFrame:
    """View, sex and age band of each image, as text, as far as `images` has NIH's columns.

    An empty cell, and an age that nobody reaches (NIH's 2017 table has 414), is "unknown".
    """
    groups = {}
    for name, column in (("view", VIEW), ("sex", GENDER)):
        if column in images.columns:
            text = images[column].fillna("").astype(str).str.strip()
            groups[name] = text.where(text != "", UNKNOWN)
    if AGE in images.columns:
        age = pd.to_numeric(images[AGE], errors="coerce")
        band = pd.Series(UNKNOWN, index=images.index)
        for name, low, high in AGE_BANDS:
            band[(age >= low) & (age < high + 1)] = name
        groups["age"] = band
    return pd.DataFrame(groups, index=images.index)


def subgroup_table(
    images: pd.DataFrame,
    truth: np.ndarray,
    probability: np.ndarray,
    *,
    thresholds: Sequence[float],
    labels: Sequence[str],
) -> pd.DataFrame:
    """Metrics of every subgroup.

    Args:
        images: a row an image, with NIH's columns as far as they are known.
        truth: (n_samples, n_labels), 0 or 1.
        probability: the same shape, in 0…1.
        thresholds: a label each.
        labels: names of the columns.

    Returns:
        Columns group ("view", "sex", "age"), value, images, then those of `per_label.label_table`;
        empty if `images` has none of the three columns.
    """
    tables = []
    groups = groups_of(images)
    for name in groups.columns:
        for value in sorted(groups[name].unique()):
            inside = (groups[name] == value).to_numpy()
            table = per_label.label_table(
                truth[inside], probability[inside], thresholds=thresholds, labels=labels
            )
            table.insert(0, "images", int(inside.sum()))
            table.insert(0, "value", value)
            table.insert(0, "group", name)
            tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def overview(table: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """A row a subgroup: its images, findings, and averages over the labels on which each is
    defined; "labels" is how many have both classes, and so an AUROC.
    """
    if table.empty:
        return table
    row = next(iter(per_label.average_rows(labels)))
    chosen = table[table["label"] == row]
    counts = table.loc[table["label"] == row + per_label.DEFINED_SUFFIX, "auroc"]
    columns = ["group", "value", "images", "support", "precision", "recall", "f1", "auroc", "ap"]
    return chosen[columns].assign(labels=counts.astype(int).to_numpy()).reset_index(drop=True)
