"""Cells of labels → what is known of each label: names in one cell, or a column a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras.data.labels import NO_FINDING, SEPARATOR, LabelSet, plain
from cxr_keras.data.readers.layout import MAYBE, NO, UNSAID, YES
from cxr_keras.errors import DataError

LABEL_VALUES = "1 (there), 0 (absent), -1 (uncertain) or nothing (unknown)"
NORMAL_NAMES = ("No Finding", "No Findings", "NoFinding", "Normal")
SEPARATORS = (SEPARATOR, ";", ",")

_VALUES = {
    **dict.fromkeys(("1", "true", "yes"), YES),
    **dict.fromkeys(("0", "false", "no"), NO),
    "-1": MAYBE,
    **dict.fromkeys(("", "nan"), UNSAID),
}
_MOSTLY = 0.9  # of the filled cells of a column of labels are 1, 0 or -1; the rest are mistakes


def is_label_column(cells: pd.Series) -> bool:
    """Whether (nearly) every filled cell is 1, 0 or -1, and any is."""
    values = _values(cells)
    filled = values != UNSAID  # NaN, which is no value, too
    return bool(filled.any()) and bool(values[filled].notna().mean() >= _MOSTLY)


def from_columns(
    table: pd.DataFrame, source: Path, columns: tuple[str, ...]
) -> tuple[np.ndarray, LabelSet, list[str]]:
    """What a column for each label says.

    Returns:
        The truth, int8 (n, n_labels); the labels; and what was decided, a sentence each.

    Raises:
        DataError: a value is none of 1, 0, -1 and nothing.
    """
    truth = np.empty((len(table), len(columns)), dtype="int8")
    for place, column in enumerate(columns):
        values = _values(table[column])
        bad = values.isna().to_numpy()
        if bad.any():
            value = table[column].iloc[int(bad.argmax())]
            raise DataError(
                f"{source}: the column {column!r} holds {value!r} in row "
                f"{row_number(table, bad)}. A label is {LABEL_VALUES}; mend the cell, or name the "
                "columns of labels with --label-columns."
            )
        truth[:, place] = values.to_numpy()
    notices = []
    blank = int((truth == UNSAID).sum())
    if blank and not (truth == NO).any():
        truth[truth == UNSAID] = NO
        notices.append(f"{source.name} says nowhere 0, so its {blank:,} blank cells count as 0.")
    return truth, label_set(columns), notices


def from_names(
    cells: pd.Series, unknown: pd.Series | None, source: Path
) -> tuple[np.ndarray, LabelSet, list[str]]:
    """What one column of names says, with a column of those of which nobody knows.

    A blank cell is unknown in a table that has a name for normal; in others, and where a column
    says what is unknown, it means that there is no finding.

    Returns:
        As `from_columns`; a row that says nothing is UNSAID throughout.

    Raises:
        DataError: no cell names a label.
    """
    separator = _separator(cells) if unknown is None else SEPARATOR
    names = [_split(cell, separator) for cell in cells]
    open_names = [_split(cell, SEPARATOR) for cell in unknown] if unknown is not None else []
    spelled: dict[str, str] = {}
    for found in (*names, *open_names):
        for name in found:
            spelled.setdefault(plain(name), name)
    if not spelled:
        raise DataError(f"{source}: the column {cells.name!r} names no label. Fill it: Mass|Edema.")
    labels = label_set(tuple(sorted(spelled.values(), key=plain)))
    place = {plain(name): index for index, name in enumerate(labels.names)}
    truth = np.full((len(cells), len(labels)), NO, dtype="int8")
    for row, row_names in enumerate(names):
        truth[row, [place[plain(name)] for name in row_names]] = YES
        if not row_names and labels.normal and unknown is None:
            truth[row] = UNSAID
    for row, row_names in enumerate(open_names):
        truth[row, [place[plain(name)] for name in row_names]] = UNSAID
    return truth, labels, _finding_stands(truth, labels)


def label_set(names: tuple[str, ...]) -> LabelSet:
    """The labels of these names, of which one may say that there is no finding.

    Raises:
        DataError: two names differ in nothing but case, blanks and underscores.
    """
    normal = next((name for name in names if _is_normal(name)), None)
    known = tuple(NO_FINDING if name == normal else name for name in names)
    if normal is None:
        return LabelSet(known)
    aliases = {} if plain(normal) == plain(NO_FINDING) else {normal: NO_FINDING}
    return LabelSet(known, NO_FINDING, aliases)


def row_number(rows: pd.DataFrame, flags: np.ndarray) -> str:
    """The number of the first row of `flags` in its file, as a spreadsheet counts: header 1."""
    return f"{int(rows.index[int(flags.argmax())]) + 2:,}"


def _finding_stands(truth: np.ndarray, labels: LabelSet) -> list[str]:
    """Normal beside a finding is dropped, in place."""
    if labels.normal is None:
        return []
    normal = labels.names.index(labels.normal)
    findings = np.delete(truth, normal, axis=1) == YES
    both = (truth[:, normal] == YES) & findings.any(axis=1)
    truth[both, normal] = NO
    count = int(both.sum())
    said = f"{count:,} images say {labels.normal} beside a finding: the finding stands."
    return [said] if count else []


def _separator(cells: pd.Series) -> str:
    """The first of the separators that any cell has."""
    text = "\n".join(cells)
    return next((separator for separator in SEPARATORS if separator in text), SEPARATOR)


def _split(cell: str, separator: str) -> list[str]:
    """Names in a cell, also in one that is written as a list: ['Mass', 'Edema']."""
    parts = (part.strip(" \t\n[]'\"") for part in str(cell).split(separator))
    return [_normal_name(part) for part in parts if part]


def _normal_name(name: str) -> str:
    return NO_FINDING if _is_normal(name) else name


def _is_normal(name: str) -> bool:
    return plain(name) in {plain(known) for known in NORMAL_NAMES}


def _values(cells: pd.Series) -> pd.Series:
    """1, 0, -1 and UNSAID of the cells of a column, NaN for another value."""
    text = cells.str.strip().str.lower().str.replace(r"(?<=\d)\.0+$", "", regex=True)
    return text.map(_VALUES)
