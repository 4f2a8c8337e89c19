"""An image file in memory, which is read as one on disk is: nothing of it goes to a disk."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class Content:
    """The content of an image file that somebody sent.

    Attributes:
        name: what errors call it.
        data: its bytes.
    """

    name: str
    data: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.name


ImageFile = str | Path | Content


def open_file(source: ImageFile | os.PathLike[str]) -> BinaryIO:
    """A file to read from, wherever it is."""
    return BytesIO(source.data) if isinstance(source, Content) else open(source, "rb")


def bytes_of(source: ImageFile | os.PathLike[str]) -> bytes:
    """The whole file."""
    return source.data if isinstance(source, Content) else Path(source).read_bytes()
