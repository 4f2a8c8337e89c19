"""Radiographs that are no files but rows of an array in a NumPy archive (.npz).

Where others have a file's path, such a radiograph has

    folder/chestmnist_64.npz#train_images/123     row 123 of the array train_images

An archive cannot be read from the middle. So its array is unpacked once into the cache folder,

    arrays/<archive's name>-<array>-<key>/pixels.npy

and memory-mapped, however large it is. The key is made of the archive's path, size and time of
modification and the array's name, so a changed archive is unpacked anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cxr_keras.data.content import Content
from cxr_keras.errors import CxrError, DataError, ImageError
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import progress_bar
from cxr_keras.utils.files import build_once, cache_folder, cannot_write, mark_used

ROW_OF = "#"  # between an archive and what of it is meant
FOLDER, PIXELS = "arrays", "pixels.npy"

_ROW = re.compile(rf"(?P<archive>.+\.npz){ROW_OF}(?P<array>\w+)/(?P<row>\d+)", re.DOTALL)
_MB = 1_000_000
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)
_ALONE = threading.Lock()  # of the threads of this process; others wait for the folder's lock


class Row(NamedTuple):
    """Where a radiograph lies that is no file: archive, name of the array, number of the row."""

    archive: str
    array: str
    row: int


def row_path(archive: PathLike, array: str, row: int) -> str:
    """The path of a row of an array; the inverse of `row_of`."""
    return f"{os.fspath(archive)}{ROW_OF}{array}/{row}"


def row_of(path: PathLike | Content) -> Row | None:
    """What a path says of a row of an array; None for an ordinary file and for one in memory."""
    if isinstance(path, Content):
        return None
    found = _ROW.fullmatch(os.fspath(path))
    return Row(found["archive"], found["array"], int(found["row"])) if found else None


def file_of(path: PathLike) -> str:
    """The file that holds an image: itself, or the archive that it is a row of."""
    row = row_of(path)
    return row.archive if row else os.fspath(path)


def shape_of(archive: Path, array: str) -> tuple[int, ...]:
    """The shape of an array in an archive, from its first bytes.

    Raises:
        DataError: the archive cannot be read or has no such array.
    """
    with _refused(archive), zipfile.ZipFile(archive) as file, _member(file, array) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)[0]
        return np.lib.format.read_array_header_2_0(stream)[0]


def read_array(archive: Path, array: str) -> np.ndarray:
    """A small array of an archive, such as labels.

    Raises:
        DataError: the archive cannot be read or has no such array.
    """
    with _refused(archive), zipfile.ZipFile(archive) as file, _member(file, array) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def arrays_in(archive: Path) -> list[str]:
    """Names of the arrays in an archive.

    Raises:
        DataError: it cannot be read.
    """
    with _refused(archive), zipfile.ZipFile(archive) as file:
        return [name.removesuffix(".npy") for name in file.namelist()]


def read_row(row: Row) -> Image.Image:
    """A radiograph as an image: grey, or in colours where the array has three channels.

    Raises:
        DataError: the archive cannot be read, has no such array, or there is no room to unpack it.
        ImageError: it has no such row, or the row is no image of 8 bits a value.
    """
    pixels = _unpacked(row.archive, row.array, *_moment(row.archive))
    where = row_path(*row)
    if row.row >= len(pixels):
        raise ImageError(f"{where}: there is no such row; the array has {len(pixels):,}.")
    image = pixels[row.row]
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.shape[2:] in ((1,), (3,))):
        raise ImageError(
            f"{where}: no image. A row holds 8-bit values of shape (height, width) or (height, "
            f"width, 3). Received: {image.dtype} {image.shape}."
        )
    return Image.fromarray(
        np.ascontiguousarray(image[..., 0] if image.shape[2:] == (1,) else image)
    )


def _moment(archive: str) -> tuple[int, int]:
    """Size and time of modification, by which an archive is known again."""
    try:
        stat = os.stat(archive)
    except OSError as error:
        raise ImageError(f"{archive}: no such file.") from error
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=8)
def _mapped(folder: Path) -> np.ndarray:
    mark_used(folder)
    return np.load(folder / PIXELS, mmap_mode="r", allow_pickle=False)


@lru_cache(maxsize=8)
def _name(archive: str, array: str, size: int, time_ns: int) -> str:
    """Of the folder in the cache: for people, then for the machine."""
    about = f"{os.path.abspath(archive)} {size} {time_ns} {array}"
    key = hashlib.sha256(os.fsencode(about)).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(archive).stem).strip("-")[:40]
    return f"{readable}-{array}-{key}"


def _unpacked(archive: str, array: str, size: int, time_ns: int) -> np.ndarray:
    """The array, memory-mapped and read-only; unpacked before, if it is not there."""
    folder = cache_folder(FOLDER) / _name(archive, array, size, time_ns)
    with _ALONE:
        if not folder.exists():
            _mapped.cache_clear()
            waiting = f"Another process is unpacking {archive}; waiting for it."
            try:
                build_once(folder, lambda new: _unpack(archive, array, new), waiting=waiting)
            except OSError as error:
                raise CxrError(cannot_write(folder, error)) from error
        return _mapped(folder)


def _unpack(archive: str, array: str, folder: Path) -> None:
    """Write one array of an archive as a file of its own, a piece at a time."""
    title = f"Unpacking {Path(archive).name}: {array} (MB)"
    with _refused(archive), zipfile.ZipFile(archive) as file, _member(file, array) as stream:
        total = file.getinfo(f"{array}.npy").file_size
        with (folder / PIXELS).open("wb") as target, progress_bar(title, total // _MB) as bar:
            while piece := stream.read(_MB):
                target.write(piece)
                bar.advance()
        np.load(folder / PIXELS, mmap_mode="r", allow_pickle=False)  # refuses objects


def _member(file: zipfile.ZipFile, array: str) -> Any:
    try:
        return file.open(f"{array}.npy")
    except KeyError as error:
        names = ", ".join(sorted(name.removesuffix(".npy") for name in file.namelist()))
        raise DataError(
            f"{file.filename} has no array {array!r}. It has: {names or 'none'}."
        ) from error


@contextmanager
def _refused(archive: PathLike) -> Iterator[None]:
    """What a missing or damaged archive says."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"There is no file {archive}. Name one that exists.") from error
    except (PermissionError, IsADirectoryError) as error:
        raise DataError(f"{archive} cannot be read ({error.strerror}). Name a file.") from error
    except _DAMAGE as error:
        raise DataError(
            f"{archive} cannot be read as a NumPy archive ({error}). Delete it and fetch it again."
        ) from error
