"""A label table as text, whoever wrote it."""

from __future__ import annotations

import gzip
import re
import warnings
import zlib
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pandas as pd

from cxr_keras.errors import DataError


def read_csv(source: Path, columns: Callable[[str], bool] | None = None) -> pd.DataFrame:
    """A CSV as text, plain or .gz, in any usual encoding; blanks in column names as one.

    Args:
        source: the file.
        columns: which of its columns to read, by the name in the file; None for all.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    opener = gzip.open if source.suffix == ".gz" else open
    try:
        with opener(source, "rb") as file:
            text = _decode(file.read())
        if not text.strip():
            raise DataError(f"{source} is empty. Fetch it again.")
        # `index_col=False`: NIH's header has unquoted commas and, in 2017, a trailing one
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ParserWarning)
            table = pd.read_csv(
                StringIO(text), dtype=str, keep_default_na=False, index_col=False, usecols=columns
            )
    except (OSError, EOFError, UnicodeError, zlib.error, pd.errors.ParserError) as error:
        raise DataError(f"{source} cannot be read as a table ({str(error).strip()}).") from error
    table = table.rename(columns=lambda name: re.sub(r"\s+", " ", str(name)).strip())
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


def _decode(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return content.decode("latin-1")
