"""The image files that a table's cells mean: by path, by path without suffix, or by name alone."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from cxr_keras.data.array_images import file_of
from cxr_keras.data.images import SUFFIXES, find_image_files
from cxr_keras.errors import DataError


class ImageFiles:
    """The images below a folder; its subfolders are listed only when a cell asks for it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, cells: Sequence[str]) -> list[str]:
        """The path of each cell's file, relative to the folder; "" where there is none.

        A cell may be a path below the folder or from the root, with or without suffix. Where
        nothing lies there, the end of the path tells; or the name alone, if no other cell has it.

        Raises:
            DataError: several files may be meant.
        """
        names = Counter(_parts(cell)[-1] for cell in set(cells))
        return [
            self._direct(cell) or self._elsewhere(cell, alone=names[_parts(cell)[-1]] == 1)
            for cell in cells
        ]

    def _direct(self, cell: str) -> str:
        path = cell.replace("\\", "/")
        if os.path.isfile(file_of(os.path.join(self.folder, path))):
            return path
        if not path.lower().endswith(SUFFIXES):
            for suffix in SUFFIXES:
                if os.path.isfile(os.path.join(self.folder, path + suffix)):
                    return path + suffix
        return ""

    def _elsewhere(self, cell: str, *, alone: bool) -> str:
        parts = _parts(cell)
        named = self._names.get(parts[-1], [])
        found = [path for path in named if _is_tail(_parts(path), parts)]
        if not found and alone:  # of another patient's `frontal.png` the name says nothing
            found = named
        if len(found) > 1:
            raise DataError(
                f"{cell!r} may be any of {len(found):,} files in {self.folder}, such as {found[0]} "
                f"and {found[1]}. Write paths below that folder into the table."
            )
        return found[0] if found else ""

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        """Name without suffix → the files of that name."""
        names = defaultdict(list)
        for path in find_image_files(self.folder):
            names[_parts(path.name)[-1]].append(path.relative_to(self.folder).as_posix())
        return names


def _parts(path: str) -> list[str]:
    """Folders and name of a path, the name without the suffix of an image."""
    pure = path.replace("\\", "/").strip("/")
    stem, suffix = os.path.splitext(pure)
    return (stem if suffix.lower() in SUFFIXES else pure).split("/")


def _is_tail(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether one path is the end of the other."""
    shorter = min(len(a), len(b))
    return a[-shorter:] == b[-shorter:]
