"""Any table of images and labels, whoever made it: a CSV, and a folder of images.

    labels.csv      image,patient_id,view,age,sex,labels
                    p1/a.png,17,PA,58,F,Mass|Edema
    images/         p1/a.png

or a column for each label, with 1 (there), 0 (absent), -1 (uncertain) or nothing (unknown):

    path,subject,Cardiomegaly,Edema
    p1/a.png,17,1,0

Columns are found by their names, and what was taken for what is said. An image is found by its
path, by its path without suffix, or by its name anywhere below the folder. The manifest.csv that
this program writes is such a table, its "Unknown Labels" and its splits included.

Rules for what a table may hold, each counted and said:

- a blank cell of names is unknown where the table has a name for normal ("No Finding", "Normal"):
  the image is left out; elsewhere, and in a manifest, it means that there is no finding;
- a blank cell of a label's own column is unknown; but absent where the whole table says nowhere 0;
- "No Finding" beside a finding is dropped: the finding stands;
- a column "split" that holds nothing but train, val and test gives the data set's own lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import AGE, GENDER, IMAGE, PATH, PATIENT, UNKNOWN_LABELS, VIEW
from cxr_keras.data.labels import LabelSet
from cxr_keras.data.readers.csv_files import read_csv
from cxr_keras.data.readers.image_files import ImageFiles
from cxr_keras.data.readers.layout import UNSAID, LabelTable
from cxr_keras.data.readers.table_columns import Columns, choose_columns
from cxr_keras.data.readers.table_labels import (
    from_columns,
    from_names,
    is_label_column,
    row_number,
)
from cxr_keras.data.selection import CHOSEN_FOR
from cxr_keras.data.splits import DIGEST
from cxr_keras.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "train_val": "train_val",
}
VIEW_NAMES = {
    "LATERAL": "L",
    "LL": "L",
    "LAT": "L",
    "POSTEROANTERIOR": "PA",
    "ANTEROPOSTERIOR": "AP",
}
_SEXES = {"F": "F", "FEMALE": "F", "W": "F", "WOMAN": "F", "M": "M", "MALE": "M", "MAN": "M"}
_AGE_UNITS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365, "D": 1 / 365}  # as DICOM writes: 058Y


def read_table(
    table: Path,
    images: Path | None = None,
    *,
    path_column: str | None = None,
    patient_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    look: bool = True,
) -> LabelTable:
    """Read any CSV of images and labels.

    Args:
        table: the file, plain or .gz.
        images: the folder with the images; that of the table without it. Paths in the answer
            are relative to it, so it is the `root` that `assemble` takes.
        path_column: which column says where an image lies; None to guess it by its name.
        patient_column: which column says whose it is.
        label_columns: which columns are labels: one of names ("Mass|Edema"), or one or more of 1,
            0, -1 or nothing.
        look: look for the images' files; without it there are none.

    Raises:
        DataError: it cannot be read, a column is not there or cannot be guessed, a value is none
            that the column can hold (column, value and row are named), or a file is ambiguous.
    """
    folder = table.parent if images is None else images
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Name the folder that holds the images.")
    rows = _read_rows(table)
    if {CHOSEN_FOR, DIGEST} <= set(rows.columns) and UNKNOWN_LABELS not in rows.columns:
        rows[UNKNOWN_LABELS] = ""  # a manifest of this program, which knows every label
    columns = choose_columns(
        rows, table, path=path_column, patient=patient_column, labels=label_columns
    )
    _check_images(rows, table, columns)
    truth, labels, notices = _labels_of(rows, table, columns)
    lists, about_split = _lists_of(rows, columns)
    silent = _is_silent(rows, columns, truth)
    if silent.any():
        notices.append(f"{silent.sum():,} images have an empty label cell: left out.")
    if silent.all():
        raise DataError(
            f"{table} says nothing of its images: each cell of {columns.labels[0]!r} is empty. "
            "Fill it, or name another column with --label-columns."
        )
    rows, truth = rows[~silent].reset_index(drop=True), truth[~silent]
    found, about_people = _images_of(rows, columns, ImageFiles(folder) if look else None)
    said = _what_was_taken(table, columns, labels)
    return LabelTable(found, truth, labels, lists, (said, *about_split, *about_people, *notices))


def _read_rows(table: Path) -> pd.DataFrame:
    rows = read_csv(table)
    if len(rows.columns) == 1 and any(mark in rows.columns[0] for mark in ";\t"):
        raise DataError(
            f"{table} is separated by {';' if ';' in rows.columns[0] else 'tabs'}. "
            "Save it with commas."
        )
    for name in rows.columns:
        rows[name] = rows[name].str.strip()
    rows = rows[(rows != "").any(axis=1)]  # spreadsheets leave blank rows at the end
    if rows.empty:
        raise DataError(f"{table} has a header and no row. Write one row for each image.")
    return rows


def _check_images(rows: pd.DataFrame, table: Path, columns: Columns) -> None:
    """Refuse a row without an image, and an image with two rows."""
    for column in dict.fromkeys((columns.path, columns.name)):
        blank = (rows[column] == "").to_numpy()
        if blank.any() and column == columns.name:
            raise DataError(
                f"{table}: the column {column!r} is empty in row {row_number(rows, blank)}. "
                "Name the image, or remove the row."
            )
    twice = rows[columns.name].duplicated().to_numpy()
    if twice.any():
        name = rows[columns.name].iloc[int(twice.argmax())]
        raise DataError(
            f"{table}: the column {columns.name!r} holds {name!r} again in row "
            f"{row_number(rows, twice)}. Keep one row for each image, or name the column that "
            "tells images apart with --path-column."
        )


def _labels_of(
    rows: pd.DataFrame, table: Path, columns: Columns
) -> tuple[np.ndarray, LabelSet, list[str]]:
    if _are_names(rows, columns):
        unknown = rows[columns.unknown] if columns.unknown else None
        return from_names(rows[columns.labels[0]], unknown, table)
    return from_columns(rows, table, columns.labels)


def _are_names(rows: pd.DataFrame, columns: Columns) -> bool:
    return len(columns.labels) == 1 and not is_label_column(rows[columns.labels[0]])


def _is_silent(rows: pd.DataFrame, columns: Columns, truth: np.ndarray) -> np.ndarray:
    """Rows whose cell of names is blank where that means unknown."""
    if not _are_names(rows, columns) or columns.unknown:
        return np.zeros(len(rows), dtype=bool)
    return (truth == UNSAID).all(axis=1)


def _lists_of(rows: pd.DataFrame, columns: Columns) -> tuple[dict[str, frozenset[str]], list[str]]:
    if columns.split is None:
        return {}, []
    cells = rows[columns.split].str.lower()
    splits = cells.map(SPLIT_NAMES)
    other = (splits.isna() & (cells != "")).to_numpy()
    if other.any():
        value = rows[columns.split].iloc[int(other.argmax())]
        return {}, [
            f"The column {columns.split!r} is not taken for splits: it holds {value!r} in row "
            f"{row_number(rows, other)}, not only train, val and test."
        ]
    found = {str(name): frozenset(names) for name, names in rows[columns.name].groupby(splits)}
    return found, []


def _images_of(
    rows: pd.DataFrame, columns: Columns, files: ImageFiles | None
) -> tuple[pd.DataFrame, list[str]]:
    """The images with their files, patients, views, ages and sexes."""
    notices: list[str] = []
    paths = files.find(list(rows[columns.path])) if files else ""
    found = pd.DataFrame({IMAGE: rows[columns.name], PATH: paths})
    found[PATIENT] = rows[columns.patient] if columns.patient else ""
    if columns.view:
        view = rows[columns.view].str.upper()
        found[VIEW] = view.replace(VIEW_NAMES)
    if columns.age:
        found[AGE] = _ages(rows, columns.age, notices)
    if columns.sex:
        found[GENDER] = rows[columns.sex].str.upper().map(_SEXES).fillna("")
    return found, notices


def _ages(rows: pd.DataFrame, column: str, notices: list[str]) -> pd.Series:
    cells = rows[column].str.upper()
    years = pd.to_numeric(cells.str.rstrip("".join(_AGE_UNITS)), errors="coerce")
    years *= cells.str[-1:].map(_AGE_UNITS).fillna(1.0)
    bad = (years.isna() & ~cells.isin(("", "NAN", "UNKNOWN"))).to_numpy()
    if bad.any():
        value = rows[column].iloc[int(bad.argmax())]
        notices.append(
            f"{bad.sum():,} ages are no number and count as unknown: the column {column!r} holds "
            f"{value!r} in row {row_number(rows, bad)}."
        )
    return years


def _what_was_taken(table: Path, columns: Columns, labels: LabelSet) -> str:
    pairs = {
        "image": columns.path,
        "name": columns.name,
        "patient": columns.patient,
        "view": columns.view,
        "age": columns.age,
        "sex": columns.sex,
        "split": columns.split,
    }
    if columns.name == columns.path:
        del pairs["name"]
    taken = ", ".join(f"{what} {column!r}" for what, column in pairs.items() if column)
    shown = ", ".join(map(repr, columns.labels[:5]))
    shown += f" and {len(columns.labels) - 5} more" if len(columns.labels) > 5 else ""
    return (
        f"{table.name} has {len(labels)} labels in {shown}; taken as {taken}. "
        "--path-column, --patient-column and --label-columns say otherwise."
    )
