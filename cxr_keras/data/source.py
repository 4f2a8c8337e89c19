"""From what a person names as data to one data set: found, read, and several joined."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cxr_keras.data import phantom
from cxr_keras.data.combining import choose_labels, combine
from cxr_keras.data.dataset import Dataset
from cxr_keras.data.readers import nih
from cxr_keras.data.readers.layout import ReadOptions, assemble
from cxr_keras.data.readers.registry import reader_of
from cxr_keras.data.readers.table import read_table
from cxr_keras.data.readers.views import EVERY_VIEW
from cxr_keras.data.reading import Data, Reading, as_data
from cxr_keras.errors import DataError
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice

DATA_VARIABLE = "CXR_KERAS_DATA"
DEFAULT_FOLDER = Path("data/nih")


def resolve_data(data: PathLike | None) -> Path:
    """The data folder: `data`, else $CXR_KERAS_DATA, else ./data/nih with images, else phantoms.

    Says in one line on stderr which one it took when nobody named it.
    """
    if data:
        return Path(data).expanduser()
    named = os.environ.get(DATA_VARIABLE)
    if named:
        notice(f"Data: {named} (from ${DATA_VARIABLE}).")
        return Path(named).expanduser()
    if nih.is_data_folder(DEFAULT_FOLDER):
        notice(f"Data: {DEFAULT_FOLDER}.")
        return DEFAULT_FOLDER
    folder = phantom.default_phantoms()
    notice(f"Data: no data named, so the built-in phantoms. {phantom.NOTICE}")
    return folder


def drawn_again(root: Path, *, phantoms: bool) -> Path:
    """`root`; or where it was the built-in phantoms and the cache was cleared, they, drawn again.

    Args:
        root: the data folder of a run.
        phantoms: whether it held phantoms.
    """
    if phantoms and root.name == phantom.default_name() and not root.exists():
        return phantom.default_phantoms()
    return root


def read_data(
    data: Data | None = None, reading: Reading | None = None, *, allow_missing: bool = False
) -> Dataset:
    """Read what a person named: a folder, a CSV, a data set made in Python, or several of these.

    Args:
        data: one or several; None as in `resolve_data`.
        reading: how.
        allow_missing: keep images that are in a label table but not on disk.

    Raises:
        DataError: it cannot be read as asked.
    """
    reading = reading or Reading()
    sources = as_data(data)
    table = reading.table or reading.manifest
    if table is not None:
        if len(sources) > 1 or any(isinstance(source, Dataset) for source in sources):
            raise DataError(f"{table} is one data set. Leave out the other ones, or join the CSVs.")
        folder = str(sources[0]) if sources else None
        found = _read_table(Path(str(table)).expanduser(), folder, reading, allow_missing)
        return choose_labels(found, reading.labels)
    _refuse_deaf(sources, reading)
    read = [
        source if isinstance(source, Dataset) else _read_folder(source, reading, allow_missing)
        for source in sources or (None,)
    ]
    return (
        combine(read, reading.labels) if len(read) > 1 else choose_labels(read[0], reading.labels)
    )


def _refuse_deaf(sources: Sequence[PathLike | Dataset], reading: Reading) -> None:
    """Stop where an option could do nothing: a data set made in Python is read already."""
    if not sources or not all(isinstance(source, Dataset) for source in sources):
        return
    deaf = [name for name in ("format", "uncertain", "views") if name in reading.said()]
    if deaf:
        raise DataError(
            f"{deaf[0]} says how a folder is read, and the data was made in Python. Decide it in "
            "the table before `Dataset.from_table`."
        )


def _read_folder(source: PathLike | None, reading: Reading, allow_missing: bool) -> Dataset:
    root = resolve_data(source)
    reader = reader_of(root, reading.format)
    found = reader.read(root, _options(reading, allow_missing))
    if reader.name != "nih":
        found = replace(found, notices=(f"Read as {reader.title}", *found.notices))
    return found.named(reader.name)


def _read_table(file: Path, folder: str | None, reading: Reading, allow_missing: bool) -> Dataset:
    """Any CSV; its images lie in --images, in the folder named as data, or beside it."""
    place = reading.images or folder
    images = Path(str(place)).expanduser() if place else None
    found = read_table(
        file,
        images,
        path_column=reading.path_column,
        patient_column=reading.patient_column,
        label_columns=reading.label_columns,
    )
    found_in = images or file.parent
    return assemble(found_in, found, _options(reading, allow_missing)).named(file.stem)


def _options(reading: Reading, allow_missing: bool) -> ReadOptions:
    every = (EVERY_VIEW,) if reading.manifest else None  # somebody has chosen its images already
    views = every if reading.views is None else tuple(reading.views)
    return ReadOptions(reading.uncertain, views, allow_missing)
