"""A folder in NIH ChestX-ray14's layout → one clean table.

    Data_Entry_2017_v2020.csv  or Data_Entry_2017.csv, plain or .gz
    images/*.png               or images_001/images/*.png …
    BBox_List_2017.csv, train_val_list.txt, test_list.txt    where present

Rules for what is wrong in a table, row by row and then among rows of one image, each counted and
said in `Dataset.notices`:

- a label that is none of the 15 is ignored; an image with no other label is left out;
- an empty label cell is unknown, not "No Finding": the image is left out;
- "No Finding" beside a finding is dropped: the finding stands;
- an image without a patient counts as a patient of its own;
- an image listed twice with the same labels counts once, with different labels is left out;
- an image in the table but not on disk is left out, one on disk but not in the table is ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from cxr_keras.data.dataset import AGE, FINDING_LABELS, GENDER, IMAGE, PATIENT, VIEW, Dataset
from cxr_keras.data.images import SUFFIXES
from cxr_keras.data.labels import FINDINGS, NO_FINDING, canonical_label, split_labels
from cxr_keras.data.multi_hot import decode, encode
from cxr_keras.data.readers import csv_files
from cxr_keras.data.readers.csv_files import read_csv, require
from cxr_keras.data.readers.layout import ReadOptions
from cxr_keras.data.readers.registry import add_reader
from cxr_keras.data.readers.views import choose_views
from cxr_keras.errors import DataError

TABLE_NAMES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
LIST_NAMES = {"train_val": "train_val_list.txt", "test": "test_list.txt"}

# NIH renamed the column in the table on its page; the 2017 table and mirrors keep the old name.
_NEW_NAMES = {"Patient Sex": GENDER}
_KEPT_COLUMNS = (IMAGE, FINDING_LABELS, "Follow-up #", PATIENT, AGE, GENDER, VIEW)


def is_data_folder(folder: Path) -> bool:
    """Whether `folder` holds a label table and at least one image."""
    return find_table(folder) is not None and next(_image_files(folder), None) is not None


def find_table(folder: Path) -> Path | None:
    """NIH's label table in `folder`, the 2020 version first, plain before .gz; None without."""
    return csv_files.find_table(folder, *TABLE_NAMES)


def read_dataset(folder: str | Path, *, allow_missing: bool = False) -> Dataset:
    """Read a folder in NIH's layout.

    Args:
        folder: the folder with the label table.
        allow_missing: keep images that are in the table but not on disk (to plan without them).

    Raises:
        DataError: no such folder, no table, a table without the needed columns, or no image.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"There is no data folder {root}. Name a folder in NIH's layout.")
    source = find_table(root)
    if source is None:
        raise DataError(
            f"{root} holds no label table. It needs one of {', '.join(TABLE_NAMES)} (or .gz); "
            "`cxr-keras download` fetches NIH's, `cxr-keras phantom` draws a stand-in."
        )
    table, notices = read_label_table(source)
    files = {path.name: str(path) for path in _image_files(root)}
    table["path"] = [files.get(name, "") for name in table[IMAGE]]
    missing = int((table["path"] == "").sum())
    unlisted = len(files) - int((table["path"] != "").sum())
    if missing and not allow_missing:
        notices.append(
            f"{missing:,} of {len(table):,} images in {source.name} are not on disk: left out."
        )
        table = table[table["path"] != ""]
    if unlisted:
        notices.append(f"{unlisted:,} images on disk have no usable row in {source.name}: ignored.")
    if table.empty:
        raise DataError(
            f"{root} has no image that its table {source.name} names. Put the images into "
            f"{root / 'images'}, or plan without them: `cxr-keras prepare {root} --allow-missing`."
        )
    lists = {key: _read_list(root / name) for key, name in LIST_NAMES.items()}
    return Dataset(
        root=root,
        table=table.sort_values(IMAGE, ignore_index=True),
        lists={key: names for key, names in lists.items() if names},
        notices=tuple(notices),
    )


def nih(root: Path, options: ReadOptions) -> Dataset:
    """NIH ChestX-ray14: Data_Entry_2017_v2020.csv, images/."""
    dataset = read_dataset(root, allow_missing=options.allow_missing)
    notices: list[str] = []
    table = choose_views(dataset.table, options.views, notices)
    return dataset.with_table(table.reset_index(drop=True), *notices)


add_reader(nih, lambda root: root.is_dir() and find_table(root) is not None, nih)


def read_label_table(source: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read a label table on its own and apply the rules at the head of this module.

    Returns:
        The clean table, and a sentence for each rule that applied.

    Raises:
        DataError: it cannot be read or lacks "Image Index", "Finding Labels" or "Patient ID".
    """
    table = read_csv(source).rename(columns=_NEW_NAMES)
    table = table.loc[:, ~table.columns.duplicated()]
    require(table, source, IMAGE, FINDING_LABELS, PATIENT)
    table = table[[name for name in _KEPT_COLUMNS if name in table.columns]].copy()
    for name in table.columns:
        table[name] = table[name].str.strip()
    table = table[table[IMAGE] != ""]
    table, notices = _clean_labels(table)
    table, duplicates = _drop_duplicates(table)
    nameless = table[PATIENT] == ""
    if nameless.any():
        table[PATIENT] = table[PATIENT].mask(nameless, "unknown " + table[IMAGE])
        notices.append(
            f"{nameless.sum():,} images have no {PATIENT}: each counts as a patient of its own."
        )
    if AGE in table.columns:
        # the 2017 table writes "058Y", and months and days of infants
        years = table[AGE].str[-1:].map({"M": 1 / 12, "D": 1 / 365}).fillna(1.0)
        table[AGE] = pd.to_numeric(table[AGE].str.rstrip("YMD"), errors="coerce") * years
    return table.reset_index(drop=True), notices + duplicates


def _clean_labels(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Canonical cells; rows without a usable label left out."""
    counts: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    clean: dict[str, str] = {}
    for cell, rows in table[FINDING_LABELS].value_counts().items():
        names = split_labels(str(cell))
        known = {label for name in names if (label := canonical_label(name))}
        unknown.update({name: rows for name in names if canonical_label(name) is None})
        if NO_FINDING in known and len(known) > 1:
            known.discard(NO_FINDING)
            counts["contradictory"] += rows
        if not known:
            counts["unknown" if names else "empty"] += rows
        clean[str(cell)] = decode(encode(known))
    table[FINDING_LABELS] = table[FINDING_LABELS].map(clean)
    notices = []
    if unknown:
        named = ", ".join(f"{name!r} ({rows:,})" for name, rows in sorted(unknown.items())[:5])
        notices.append(f"Unknown labels are ignored: {named}.")
    if counts["unknown"]:
        notices.append(f"{counts['unknown']:,} images have only unknown labels: left out.")
    if counts["empty"]:
        notices.append(f"{counts['empty']:,} images have an empty label cell: left out.")
    if counts["contradictory"]:
        notices.append(
            f"{counts['contradictory']:,} images say No Finding beside a finding: "
            "the finding stands."
        )
    table = table[table[FINDING_LABELS] != ""]
    present = {label for cell in table[FINDING_LABELS].unique() for label in split_labels(cell)}
    absent = [label for label in FINDINGS if label not in present]
    if absent and len(table):
        notices.append(f"No image in the table has the label {', '.join(absent)}.")
    return table, notices


def _drop_duplicates(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    repeated = table[table.duplicated(IMAGE, keep=False)]
    if repeated.empty:
        return table, []
    kinds = repeated.groupby(IMAGE)[FINDING_LABELS].nunique()
    conflicting = kinds[kinds > 1].index
    notices = []
    if len(kinds) > len(conflicting):
        notices.append(
            f"{len(kinds) - len(conflicting):,} images are listed more than once: counted once."
        )
    if len(conflicting):
        notices.append(
            f"{len(conflicting):,} images are listed with different labels: left out "
            f"({', '.join(conflicting[:3])}{', …' if len(conflicting) > 3 else ''})."
        )
    table = table[~table[IMAGE].isin(conflicting)]
    return table.drop_duplicates(IMAGE), notices


def _image_files(root: Path) -> Iterator[Path]:
    """The images in `images/` and `images_*/images/` (or `images_*/`), one generator."""
    folders = [root / "images"]
    for part in sorted(root.glob("images_*")):
        folders += [part, part / "images"]
    for folder in folders:
        if folder.is_dir():
            for path in folder.iterdir():
                if path.suffix.lower() in SUFFIXES:
                    yield path


def _read_list(source: Path) -> frozenset[str]:
    if not source.is_file():
        return frozenset()
    return frozenset(source.read_text(encoding="utf-8-sig").split())
