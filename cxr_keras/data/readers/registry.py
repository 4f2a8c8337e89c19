"""The readers: which data sets the program knows, and whose folder this is.

A reader is one decorated function, `folder → LabelTable`, in a module of its own:

    @register_dataset(lambda folder: (folder / "clinic.csv").is_file())
    def clinic(folder: Path) -> LabelTable:
        \"\"\"Our clinic's export: clinic.csv, films in scans/.\"\"\"
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cxr_keras.data.dataset import Dataset
from cxr_keras.data.options import FORMATS
from cxr_keras.data.readers.layout import LabelTable, ReadOptions, assemble
from cxr_keras.errors import DataError

Recognise = Callable[[Path], bool]
ReadTable = Callable[[Path], LabelTable]
Read = Callable[[Path, ReadOptions], Dataset]


@dataclass(frozen=True)
class Reader:
    """A data set that can be read.

    Attributes:
        name: what --format takes.
        title: the first line of its function's docstring.
        recognise: whether a folder is laid out like this data set.
        read: the folder and what a person wants of it → the data set.
    """

    name: str
    title: str
    recognise: Recognise
    read: Read


REGISTERED: dict[str, Reader] = {}


def register_dataset(recognise: Recognise) -> Callable[[ReadTable], ReadTable]:
    """Register a function as the reader of a data set, under its own name ("_" becomes "-").

    Args:
        recognise: whether a folder is laid out like this data set; looks at names of files and
            columns only, so that it answers at once.

    Returns:
        A decorator of a function that takes the folder and gives a `LabelTable`.
    """

    def register(read: ReadTable) -> ReadTable:
        add_reader(read, recognise, lambda root, options: assemble(root, read(root), options))
        return read

    return register


def add_reader(named: Callable[..., object], recognise: Recognise, read: Read) -> None:
    """Register a reader under the name and with the title of a function."""
    name = named.__name__.replace("_", "-")
    title = (named.__doc__ or name).strip().splitlines()[0]
    REGISTERED[name] = Reader(name, title, recognise, read)


def readers() -> dict[str, Reader]:
    """Every reader by its name: the built-in ones, then those registered from outside."""
    for name in FORMATS:
        importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
    return {name: REGISTERED[name] for name in FORMATS} | REGISTERED


def reader_of(root: Path, name: str | None = None) -> Reader:
    """The reader of a folder: the named one, or the only one that recognises it.

    Raises:
        DataError: no such folder or reader, none that recognises it, or several.
    """
    known = readers()
    if not root.exists():
        raise DataError(f"There is no data folder {root}. Name one that exists.")
    if name is not None:
        if name not in known:
            raise DataError(f"There is no format {name!r}. Choose one of: {', '.join(known)}.")
        return known[name]
    fitting = [reader for reader in known.values() if reader.recognise(root)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = " and ".join(reader.name for reader in fitting)
        raise DataError(f"{root} is laid out like {names}. Say which with --format.")
    raise DataError(
        f"{root} is laid out like none of the known data sets ({', '.join(known)}). Name its label "
        "table with --table and its images with --images; docs/datasets.md shows each layout. "
        "`cxr-keras download` fetches NIH's, `cxr-keras phantom` draws a stand-in."
    )
