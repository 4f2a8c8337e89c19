"""How often each label occurs somewhere: from a label table in NIH's layout, or a small CSV.

The CSV has two columns and a row per label, which may be some of the labels only:

    label,prevalence
    Pneumonia,0.012
    No Finding,0.54
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cxr_keras.data.dataset import FINDING_LABELS
from cxr_keras.data.labels import LABELS, NIH, LabelSet
from cxr_keras.data.multi_hot import encode_cells
from cxr_keras.data.readers.csv_files import read_csv
from cxr_keras.data.readers.harmonised import matching
from cxr_keras.data.readers.nih import read_label_table
from cxr_keras.errors import DataError
from cxr_keras.utils.arguments import PathLike

LABEL, PREVALENCE = "label", "prevalence"


def read_prevalence(source: PathLike, labels: LabelSet = NIH) -> tuple[dict[str, float], list[str]]:
    """Read the prevalence of labels.

    Args:
        source: a label table in NIH's layout, whose shares of images are taken; or a CSV with the
            columns "label" and "prevalence".
        labels: whose prevalence is wanted.

    Returns:
        Label → share of the images, above 0 and below 1; and notices, a sentence each.

    Raises:
        DataError: it cannot be read, has neither kind of columns, or a row that says no
            prevalence of a label, or a label twice.
    """
    source = Path(source).expanduser()
    table = read_csv(source)
    names = {name.lower(): name for name in table.columns}
    if LABEL in names and PREVALENCE in names:
        return _from_rows(source, table[names[LABEL]], table[names[PREVALENCE]], labels), []
    if FINDING_LABELS in table.columns:
        return _from_images(source, labels)
    raise DataError(
        f"{source} says no prevalence: it needs the columns {LABEL} and {PREVALENCE}, or to be a "
        f"label table with {FINDING_LABELS!r}. "
        f"Received the columns: {', '.join(map(repr, table.columns[:8]))}."
    )


def _from_rows(
    source: Path, names: pd.Series, values: pd.Series, labels: LabelSet
) -> dict[str, float]:
    found: dict[str, float] = {}
    numbers = pd.to_numeric(values, errors="coerce")
    for name, text, number in zip(names, values, numbers, strict=True):
        label = labels.canonical(name)
        if label is None:
            raise DataError(
                f"{source} has a row for {name!r}, which is none of the labels: "
                f"{', '.join(labels.names)}."
            )
        if label in found:
            raise DataError(f"{source} has two rows for {label}. Keep one.")
        if not 0 < number < 1:  # NaN, too
            raise DataError(
                f"{source}: a prevalence is a share of the images, above 0 and below 1 (0.02 for "
                f"2%). Received: {text!r} for {label}."
            )
        found[label] = float(number)
    if not found:
        raise DataError(f"{source} has no row. Give one per label: Pneumonia,0.012.")
    return found


def _from_images(source: Path, labels: LabelSet) -> tuple[dict[str, float], list[str]]:
    table, notices = read_label_table(source)
    if table.empty:
        raise DataError(f"{source} has no image with a label, so it says no prevalence.")
    shares = encode_cells(table[FINDING_LABELS]).mean(axis=0, dtype=float)
    names = matching(labels.names, LABELS)
    found = {
        names[label]: float(share)
        for label, share in zip(LABELS, shares, strict=True)
        # of no or of every image: not a prevalence, but too few images
        if label in names and 0 < share < 1
    }
    return found, notices
