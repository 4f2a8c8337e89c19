"""A label table as text, whoever wrote it."""

from __future__ import annotations

import csv
import gzip
import re
import warnings
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_keras.data.readers.layout import MAYBE, NO, UNSAID, YES
from cxr_keras.errors import DataError

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_MEANINGS = {"1": YES, "1.0": YES, "0": NO, "0.0": NO, "-1": MAYBE, "-1.0": MAYBE, "": UNSAID}


def find_table(folder: Path, *names: str) -> Path | None:
    """The first of `names` that lies in `folder`, plain before .gz; None without."""
    paths = [folder / (name + ending) for name in names for ending in ("", ".gz")]
    return next((path for path in paths if path.is_file()), None)


def has_columns(source: Path | None, *names: str) -> bool:
    """Whether a table's first line names these columns; False where it cannot be read."""
    if source is None:
        return False
    try:
        with _opener(source)(source, "rb") as file:
            head = file.read(8192)
    except (OSError, EOFError, zlib.error):
        return False
    encoding = "utf-16" if head.startswith(_UTF_16) else "utf-8-sig"
    first = head.decode(encoding, errors="ignore").partition("\n")[0].strip()
    return set(names) <= set(map(_one_blank, next(csv.reader([first]))))


def read_csv(source: Path, columns: Callable[[str], bool] | None = None) -> pd.DataFrame:
    """A CSV as text, plain or .gz, in any usual encoding; blanks in column names as one.

    Args:
        source: the file.
        columns: which of its columns to read, by the name in the file; None for all.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    try:
        with _opener(source)(source, "rb") as file:
            content = file.read()
        if not content.strip(b"\xff\xfe\xef\xbb\xbf\0 \t\r\n"):
            raise DataError(f"{source} is empty. Fetch it again.")
        # `index_col=False`: NIH's header has unquoted commas and, in 2017, a trailing one
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ParserWarning)
            table = pd.read_csv(
                BytesIO(content),  # text would take five times as much memory
                encoding=_encoding(content),
                dtype=str,
                keep_default_na=False,
                index_col=False,
                usecols=columns,
            )
    except (OSError, EOFError, UnicodeError, zlib.error, pd.errors.ParserError) as error:
        raise DataError(f"{source} cannot be read as a table ({str(error).strip()}).") from error
    table = table.rename(columns=_one_blank)
    return table.loc[:, ~table.columns.duplicated()]


def require(table: pd.DataFrame, source: Path, *names: str) -> None:
    """Refuse a table that lacks a column.

    Raises:
        DataError: with the columns it has.
    """
    absent = [name for name in names if name not in table.columns]
    if absent:
        shown = ", ".join(map(repr, table.columns[:20]))
        raise DataError(
            f"{source} lacks the column {' and '.join(map(repr, absent))}. "
            f"Received the columns: {shown}."
        )


def read_columns(source: Path, *names: str) -> pd.DataFrame:
    """Columns of a CSV, no others, without blanks around what is in their cells.

    Raises:
        DataError: it cannot be read, lacks one of the columns, or has no row.
    """
    table = read_csv(source, lambda name: _one_blank(name) in names)
    if set(names) - set(table.columns):
        require(read_csv(source), source, *names)  # says which columns there are
    if table.empty:
        raise DataError(f"{source} has no row, so it names no image. Fetch it again.")
    for name in names:
        codes, texts = pd.factorize(table[name])  # of many cells few differ
        table[name] = np.array([text.strip() for text in texts], dtype=object)[codes]
    return table[list(names)]


def label_values(table: pd.DataFrame, source: Path, labels: Sequence[str], key: str) -> np.ndarray:
    """What columns of 1, 0, -1 (uncertain) and blanks (nobody said) say.

    Args:
        table: with one column a label, as text.
        source: where it is from.
        labels: the columns.
        key: the column with the names of the rows, for an error.

    Returns:
        int8 (n, n_labels), see `LabelTable.truth`.

    Raises:
        DataError: a cell holds something else.
    """
    truth = np.empty((len(table), len(labels)), dtype="int8")
    for place, label in enumerate(labels):
        codes, texts = pd.factorize(table[label])
        for code, text in enumerate(texts):
            if text not in _MEANINGS:
                row = table[key].iloc[int(np.argmax(codes == code))]
                raise DataError(
                    f"{source}: a label is 1 (there), 0 (not there), -1 (uncertain) or blank "
                    f"(nobody said). Received: {text!r} for {label!r} of {row}."
                )
        truth[:, place] = np.array([_MEANINGS[text] for text in texts], dtype="int8")[codes]
    return truth


def _one_blank(name: object) -> str:
    """A column's name without blanks around it, each in it one."""
    return re.sub(r"\s+", " ", str(name)).strip()


def _opener(source: Path) -> Callable[..., Any]:
    return gzip.open if source.suffix == ".gz" else open


def _encoding(content: bytes) -> str:
    if content.startswith(_UTF_16):
        return "utf-16"
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"
