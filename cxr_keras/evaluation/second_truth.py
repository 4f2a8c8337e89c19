"""Another table of truth for images that are known already, such as radiologists' own labels.

`evaluate --truth` measures a network against it, and beside it the data set's own labels, which in
the large data sets were read out of reports by a program.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import FINDING_LABELS, IMAGE, PATIENT, Dataset, truth_of
from cxr_keras.data.preparation import PreparedSplit
from cxr_keras.data.readers import nih
from cxr_keras.data.readers.csv_files import read_csv
from cxr_keras.data.readers.harmonised import matching
from cxr_keras.data.readers.layout import ReadOptions, assemble
from cxr_keras.data.readers.table import read_table
from cxr_keras.errors import DataError
from cxr_keras.metrics.bootstrap import Resampling
from cxr_keras.metrics.interval_table import interval_table
from cxr_keras.utils.console import counted

OWN_LABELS = "own_labels.csv"
EITHER_OF = {"Nodule or mass": ("Nodule", "Mass")}  # a label of some tables → findings of others

_MEASURES = ("label", "known", "support", "precision", "recall", "f1")


@dataclass(frozen=True)
class SecondTruth:
    """Images measured against another table.

    Attributes:
        images: those that the table has, with its truth.
        own: what the data set's own labels say of the same images and labels, as `images.truth`.
        either_of: label of the table → the network's labels of which it means any.
        about: sentences for a person.
    """

    images: PreparedSplit
    own: np.ndarray
    either_of: dict[str, tuple[str, ...]]
    about: tuple[str, ...]


def read_truth(source: Path) -> Dataset:
    """A label table on its own: NIH's, or any CSV with a row an image.

    Columns of YES and NO, where there are any, are its labels.

    Raises:
        DataError: it cannot be read as one.
    """
    table = read_csv(source)
    said = [name for name in table.columns if _is_yes_or_no(table[name])]
    if not said and {IMAGE, FINDING_LABELS, PATIENT} <= set(table.columns):
        rows, notices = nih.read_label_table(source)
        return Dataset(source, rows, notices=tuple(notices))
    everything = ReadOptions(views=("all",), allow_missing=True)
    return assemble(
        source.parent, read_table(source, label_columns=said or None, look=False), everything
    )


def with_truth(images: PreparedSplit, source: Path, labels: tuple[str, ...]) -> SecondTruth:
    """The images of a split that another table knows, with its truth.

    Args:
        images: the split.
        source: the table; an image is found in it by the end of its path, without suffix.
        labels: of the network.

    Raises:
        DataError: the table has none of the images, or none of the labels.
    """
    known = read_truth(source)
    theirs = {our: their for their, our in matching(labels, known.labels.names).items()}
    either_of: dict[str, tuple[str, ...]] = {
        their: parts
        for composite, parts in EITHER_OF.items()
        for their in matching([composite], known.labels.names)
        if set(parts) <= set(labels)
    }
    theirs = {our: their for our, their in theirs.items() if their not in either_of}
    if not theirs and not either_of:
        raise DataError(
            f"{source} has none of the network's labels ({', '.join(labels)}). "
            f"It has: {', '.join(known.labels.names)}."
        )
    found = _rows_of(list(images.rows[IMAGE]), list(known.table[IMAGE]))
    kept = np.flatnonzero(found >= 0)
    if not len(kept):
        raise DataError(
            f"None of the {len(images):,} images is in {source}. Check that the two belong "
            "together; an image is found by its name."
        )
    names = tuple(name for name in labels if name in theirs) + tuple(either_of)
    columns = [theirs.get(name, name) for name in names]
    truth = truth_of(known.table.iloc[found[kept]], columns)
    rows = images.rows.iloc[kept].reset_index(drop=True)
    about = [
        f"Truth: {source.name}, which has {len(kept):,} of the {len(images):,} images and "
        f"{counted(len(names), 'label')} that the network predicts: {', '.join(names)}.",
        *(
            f"{name}: the higher of the probabilities of {' and '.join(parts)}, at the lower of "
            "their thresholds."
            for name, parts in either_of.items()
        ),
    ]
    own = _own(images, kept, names, either_of)
    chosen = replace(images, rows=rows, index=images.index[kept], truth=truth, labels=names)
    return SecondTruth(chosen, own, either_of, tuple(about))


def with_either(
    probability: np.ndarray, labels: tuple[str, ...], either_of: dict[str, tuple[str, ...]]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Probabilities (n, n_labels) and their labels, with a column for each label of a table."""
    columns = [
        probability[:, [labels.index(part) for part in parts]].max(axis=1)
        for parts in either_of.values()
    ]
    return np.column_stack([probability, *columns]), (*labels, *either_of)


def own_labels_table(
    second: SecondTruth, patients: pd.Series, normal: str | None, resampling: Resampling | None
) -> pd.DataFrame:
    """How the data set's own labels fare against the table: precision, recall, F1, with intervals.

    Columns of `interval_table`; a label that the data set does not know has no row.
    """
    known = ~np.isnan(second.own).all(axis=0)
    names = [name for name, one in zip(second.images.labels, known, strict=True) if one]
    own, truth = second.own[:, known], second.images.truth[:, known].copy()
    truth[np.isnan(own)] = np.nan
    table = interval_table(
        truth,
        np.nan_to_num(own),
        patients,
        labels=names,
        normal=normal,
        thresholds=[0.5] * len(names),
        resampling=resampling,
    )
    bounds = [f"{name}_{side}" for name in _MEASURES for side in ("low", "high")]
    return table[[name for name in table.columns if name in (*_MEASURES, *bounds)]]


def _own(
    images: PreparedSplit,
    kept: np.ndarray,
    names: tuple[str, ...],
    either_of: dict[str, tuple[str, ...]],
) -> np.ndarray:
    """The data set's own labels of the kept images, NaN where it does not know them."""
    columns = []
    for name in names:
        parts = either_of.get(name, (name,))
        if set(parts) <= set(images.labels):
            places = [images.labels.index(part) for part in parts]
            columns.append(images.truth[kept][:, places].max(axis=1))  # NaN where any is
        else:
            columns.append(np.full(len(kept), np.nan))
    return np.column_stack(columns)


def _rows_of(names: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """The row of each image in a table, -1 where it has none, (n,).

    The end of the longer path is the shorter one, or the names alone are the same if no other image
    on either side has it. A row that would be that of two images is nobody's.
    """
    ours, theirs = [_parts(name) for name in names], [_parts(name) for name in known]
    whole = {path: row for row, path in enumerate(theirs)}
    ends: dict[tuple[str, ...], list[int]] = {}
    for row, path in enumerate(theirs):
        for start in range(1, len(path)):
            ends.setdefault(path[start:], []).append(row)
    alone = Counter(path[-1] for path in ours), Counter(path[-1] for path in theirs)
    last = {path[-1]: row for row, path in enumerate(theirs)}
    found = np.full(len(ours), -1)
    for place, path in enumerate(ours):
        rows = [whole[path[i:]] for i in range(len(path)) if path[i:] in whole][:1]
        rows = rows or ends.get(path, [])
        if not rows and all(count[path[-1]] == 1 for count in alone):
            rows = [last[path[-1]]]
        found[place] = rows[0] if len(rows) == 1 else -1
    counts = Counter(found.tolist())
    return np.where([counts[row] > 1 for row in found.tolist()], -1, found)


def _parts(name: str) -> tuple[str, ...]:
    """Folders and name of an image, without the suffix of a file, as they are compared."""
    path = re.sub(r"\.[a-z]\w{1,4}$", "", str(name).replace("\\", "/").strip("/").lower())
    return tuple(path.split("/"))


def _is_yes_or_no(cells: pd.Series) -> bool:
    values = set(cells.str.strip().str.upper().unique()) - {""}
    return bool(values) and values <= {"YES", "NO"}
