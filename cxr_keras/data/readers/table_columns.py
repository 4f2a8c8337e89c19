"""Which column of somebody's table says what: as told, else guessed by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxr_keras.data.readers.table_labels import LABEL_VALUES, is_label_column
from cxr_keras.errors import DataError

# names as `_key` makes them, the first that a table has is taken
PATHS = ("path", "imagepath", "imgpath", "filepath", "imagefilepath")
NAMES = (
    "imageindex",
    "imageid",
    "imgid",
    "dicomid",
    "image",
    "img",
    "filename",
    "imagename",
    "imagefile",
    "file",
)
PATIENTS = ("patientid", "patient", "subjectid", "subject", "pid", "patientnumber")
VIEWS = ("viewposition", "view", "projection")
AGES = ("patientage", "age", "ageyears")
SEXES = ("patientgender", "patientsex", "sex", "gender")
SPLITS = ("split", "subset", "partition", "set")
UNKNOWN = ("unknownlabels",)
NAMED_LABELS = (
    "findinglabels",
    "labels",
    "label",
    "findings",
    "finding",
    "pathologies",
    "pathology",
    "diagnoses",
    "diagnosis",
)


@dataclass(frozen=True)
class Columns:
    """Columns of a table; None for what it does not say.

    Attributes:
        path: where an image lies.
        name: what an image is called.
        patient: its patient.
        view: PA, AP, L …
        age: in years, or "058Y".
        sex: F, M.
        split: train, val or test.
        unknown: labels of which nobody knows, "C|D".
        labels: one column of names, "A|B", or one or more of 1, 0, -1 or nothing.
    """

    path: str
    name: str
    patient: str | None
    view: str | None
    age: str | None
    sex: str | None
    split: str | None
    unknown: str | None
    labels: tuple[str, ...]


def choose_columns(
    table: pd.DataFrame,
    source: Path,
    *,
    path: str | None,
    patient: str | None,
    labels: Sequence[str] | None,
) -> Columns:
    """The columns of a table, as told or by their names.

    Raises:
        DataError: there is no such column, or none can be guessed.
    """
    where = column_named(table, source, path) if path else _first(table, (*PATHS, *NAMES))
    if where is None:
        raise DataError(
            f"{source} has no column that says where an image lies. Name it with --path-column; "
            f"{listed(table)}"
        )
    name = None if path else _first(table, NAMES)
    known = {
        "patient": column_named(table, source, patient) if patient else _first(table, PATIENTS),
        "view": _first(table, VIEWS),
        "age": _first(table, AGES),
        "sex": _first(table, SEXES),
        "split": _first(table, SPLITS),
        "unknown": _first(table, UNKNOWN),
    }
    if labels is not None:
        chosen = [column_named(table, source, label) for label in labels]
    else:
        taken = {column for column in (where, name, *known.values()) if column}
        chosen = _guessed_labels(table, source, taken)
    return Columns(
        path=where,
        name=name if name and table[name].is_unique else where,
        labels=tuple(dict.fromkeys(chosen)),
        **known,
    )


def column_named(table: pd.DataFrame, source: Path, name: str) -> str:
    """The column that a person names, forgiving case, blanks, hyphens and underscores.

    Raises:
        DataError: there is none.
    """
    if name in table.columns:
        return name
    found = _first(table, (_key(name),))
    if found is None:
        raise DataError(f"{source} has no column {name!r}; {listed(table)}")
    return found


def listed(table: pd.DataFrame) -> str:
    """The columns that there are, as the end of a sentence."""
    shown = ", ".join(map(repr, table.columns[:40]))
    return f"it has the columns: {shown}{', …' if len(table.columns) > 40 else ''}."


def _guessed_labels(table: pd.DataFrame, source: Path, taken: set[str]) -> list[str]:
    names = _first(table, NAMED_LABELS)
    if names is not None and not is_label_column(table[names]):
        return [names]
    found = [
        column
        for column in table.columns
        if column not in taken and _key(column) and not _key(column).startswith("unnamed")
        if is_label_column(table[column])
    ]
    if not found:
        raise DataError(
            f"{source} has no column of labels: neither one of names, such as 'labels' with "
            f"'Mass|Edema', nor one of {LABEL_VALUES}. Name them with --label-columns; "
            f"{listed(table)}"
        )
    return found


def _first(table: pd.DataFrame, keys: Sequence[str]) -> str | None:
    """The column that has the first of these names that any has."""
    columns: dict[str, str] = {}
    for column in table.columns:
        columns.setdefault(_key(column), column)
    return next((columns[key] for key in keys if key in columns), None)


def _key(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())
