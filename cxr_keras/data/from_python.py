"""A data set made in Python: a table, and a folder or a function for the pixels."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import AGE, GENDER, IMAGE, PATH, PATIENT, VIEW, Dataset
from cxr_keras.data.images import frame_array
from cxr_keras.data.labels import LabelSet, normal_of
from cxr_keras.data.pixel_store import PixelStore, pixel_digest, stop_if_too_many_bad
from cxr_keras.data.readers.layout import MAYBE, NO, UNSAID, YES, LabelTable, ReadOptions, assemble
from cxr_keras.data.splits import SPLITS
from cxr_keras.errors import DataError, ImageError
from cxr_keras.framing import Framing
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import progress_bar
from cxr_keras.utils.threads import threaded_map

Pixels: TypeAlias = Callable[[str], np.ndarray]
_ABOUT = {"view": VIEW, "age": AGE, "sex": GENDER}


def dataset_from_table(
    table: pd.DataFrame,
    images: PathLike | Pixels,
    *,
    labels: LabelSet | Sequence[str],
    image_column: str = "image",
    patient_column: str | None = "patient",
    name: str = "table",
) -> Dataset:
    """See `Dataset.from_table`."""
    known = labels if isinstance(labels, LabelSet) else LabelSet(tuple(labels), normal_of(labels))
    wanted = [image_column, *known.names, *([patient_column] if patient_column else [])]
    absent = [column for column in wanted if column not in table.columns]
    if absent:
        raise DataError(
            f"The table lacks the column {' and '.join(map(repr, absent))}. "
            f"Received the columns: {', '.join(map(repr, table.columns))}."
        )
    names = table[image_column].astype(str)
    about = {ours: table[theirs] for theirs, ours in _ABOUT.items() if theirs in table.columns}
    patients = {PATIENT: table[patient_column]} if patient_column else {}
    rows = pd.DataFrame({IMAGE: names, PATH: names, **patients, **about})
    lists = {}
    if "split" in table.columns:
        lists = _lists(table["split"], names)
    found = LabelTable(rows, _truth(table, known), known, lists)
    if callable(images):
        made = assemble(Path(name), found, ReadOptions(views=("all",), allow_missing=True))
        return replace(made, name=name, pixels=images, in_python=True)
    made = assemble(Path(images).expanduser(), found, ReadOptions(views=("all",)))
    return replace(made, name=name, in_python=True)


def function_store(read: Pixels, names: Sequence[str], framing: Framing) -> PixelStore:
    """The pixels that a function gives, framed, in a temporary file that ends with the program.

    Raises:
        DataError: it gives something else than grey pixels, or more than 5% are no radiographs.
    """
    side = framing.stored
    rows: list[tuple[str, int, str, str]] = []
    errors: list[str] = []
    with tempfile.TemporaryFile() as file:
        file.truncate(max(len(names), 1) * side * side)
        pixels = np.memmap(file, "uint8", "r+", shape=(max(len(names), 1), side, side))
        with progress_bar("Reading radiographs", len(names)) as bar:
            # read here, one after the other: the function may share a file or an archive
            arrays = ((name, np.asarray(read(name))) for name in names)
            framed = threaded_map(lambda pair: _framed(*pair, framing), arrays)
            for name, (square, error) in zip(names, framed, strict=True):
                if error:
                    errors.append(error)
                    stop_if_too_many_bad(errors, len(names))
                else:
                    pixels[len(rows)] = square
                digest = "" if error else pixel_digest(square)
                rows.append((name, -1 if error else len(rows), digest, error))
                bar.advance()
    index = pd.DataFrame(rows, columns=["path", "row", "digest", "error"])
    return PixelStore(Path(tempfile.gettempdir()), index, pixels)


def _framed(name: str, pixels: np.ndarray, framing: Framing) -> tuple[np.ndarray, str]:
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or not pixels.size:
        raise DataError(
            "The function for pixels must give a uint8 array (height, width), 0 black … 255 "
            f"white. Received for {name}: {pixels.dtype} {pixels.shape}."
        )
    try:
        return frame_array(pixels, name, framing), ""
    except ImageError as error:
        return pixels[:0], str(error)


def _lists(split: pd.Series, names: pd.Series) -> dict[str, frozenset[str]]:
    """The images of each split."""
    bad = ~split.isin((*SPLITS, "")) & split.notna()
    if bad.any():
        raise DataError(
            f"The column 'split' holds {split[bad].iloc[0]!r}. A split is one of "
            f"{', '.join(SPLITS)}, or missing. Rename the column if it says something else."
        )
    return {name: frozenset(names[split == name]) for name in SPLITS}


def _truth(table: pd.DataFrame, labels: LabelSet) -> np.ndarray:
    """1, 0, -1 (uncertain) and what is missing (unknown), int8 (n, n_labels)."""
    columns = []
    for name in labels.names:
        values = pd.to_numeric(table[name], errors="coerce")
        bad = ~values.isin((YES, NO, MAYBE)) & table[name].notna()
        if bad.any():
            raise DataError(
                f"The column {name!r} holds {table.loc[bad, name].tolist()[0]!r}. A label is 1 "
                "(there), 0 (absent), -1 (uncertain) or missing (unknown)."
            )
        columns.append(values.fillna(UNSAID).astype("int8").to_numpy())
    return np.column_stack(columns)
