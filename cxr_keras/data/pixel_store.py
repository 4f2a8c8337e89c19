"""The pixel store: each radiograph decoded once, kept in one memory-mapped uint8 array.

A data folder has one store for each size and fit, whichever of its images are chosen: images that
it lacks are decoded behind those that it holds. It lies in the cache folder:

    pixels/<data folder's name>-<key>/pixels.raw   the images, side × side bytes each
                                      index.csv    path, size, times, row in pixels.raw, digest

Where size and fit are not the default, ".<fit><size>" stands before the key. The key is made of the
decoder's version, the framing and the data folder's path. An image is found by its path,
size, and times of modification and of change, so a changed one is decoded anew. A failure is not
kept: its cause may be gone at the next use, an extra installed or a disk back. Rows that the index
names are never written again: a process may be training on them. The index is replaced as a
whole after the pixels it names are on disk, so whatever ends the work leaves a store of the images
that were finished.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pandas as pd

from cxr_keras.data.array_images import file_of
from cxr_keras.data.images import VERSION, read_radiograph
from cxr_keras.errors import CxrError, DataError, ImageError
from cxr_keras.framing import DEFAULT_FRAMING, FITS, Fit, Framing
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice, progress_bar
from cxr_keras.utils.files import atomic_file, cache_folder, hold_lock, mark_used
from cxr_keras.utils.threads import threaded_map

LAYOUT = 2  # of the store: raise it when that changes
MAX_BAD_SHARE = 0.05
FOLDER, INDEX, PIXELS = "pixels", "index.csv", "pixels.raw"

# of a store's folder; no data folder's name keeps its dots, see `_name`
_FRAMED = re.compile(rf"\.({'|'.join(FITS)})(\d+)-[0-9a-f]+$")
_STATE = ["path", "size", "mtime", "ctime"]
_COLUMNS = [*_STATE, "row", "digest", "error"]
_TYPES = {name: str if name in ("path", "digest", "error") else "int64" for name in _COLUMNS}
_NAMES = {"encoding": "utf-8", "errors": "surrogateescape"}  # names of files may be no text
_UNREADABLE = -1  # the size of a file that is not there
_SAVE_SHARE, _SAVE_EVERY_S = 0.05, 5.0  # of the time; the index grows with the store


@dataclass(frozen=True)
class PixelStore:
    """Decoded radiographs.

    Attributes:
        folder: where the store lies.
        index: one row per image that was asked for, in that order: "path", "row" (of `pixels`; -1
            for a bad image), "digest" (of the decoded pixels), "error" (empty for a good image).
        pixels: all images of the store, uint8 (N, side, side), memory-mapped and read-only.
    """

    folder: Path
    index: pd.DataFrame
    pixels: np.ndarray

    def bad(self) -> pd.DataFrame:
        """The files that could not be decoded: columns path, error."""
        return self.index.loc[self.index["error"] != "", ["path", "error"]]


def open_store(
    paths: Sequence[PathLike],
    root: PathLike,
    framing: Framing = DEFAULT_FRAMING,
    *,
    bits: int | None = None,
) -> PixelStore:
    """The store of a data folder and framing, with `paths` in it: those that it lacks are decoded.

    Two processes share a store: the second waits for the first, unless it has what it needs.

    Args:
        paths: the images, in the order of the answer's `index`.
        root: the data folder, by whose path the store is found.
        framing: how large the images are stored, and how much of them.
        bits: depth of the data set's 16-bit PNGs, see `png_depth.common_depth`; of another depth
            there is another store.

    Raises:
        DataError: more than 5% of the files are bad, a file vanished, or the disk is full.
    """
    wanted = _states(paths)
    folder = cache_folder(FOLDER) / _name(os.path.abspath(root), framing, bits)
    try:
        index, pixels = _read(folder, framing.stored)
        found = _find(wanted, index)
        if found["row"].isna().any():
            waiting = "Another process is decoding images of the same folder; waiting for it."
            with hold_lock(folder, waiting=waiting):
                index, pixels, found = _complete(folder, wanted, framing, bits)
    except OSError as error:
        raise DataError(
            f"The pixel store {folder} cannot be written ({error.strerror or error}). "
            f"It needs {len(paths) * framing.stored**2 / 1e9:.1f} GB; set $CXR_KERAS_CACHE to a "
            "folder with room."
        ) from error
    stop_if_too_many_bad([error for error in found["error"] if error], len(found))
    mark_used(folder)
    answer = found[["path", "row", "digest", "error"]].astype({"row": int})
    return PixelStore(folder, answer, pixels)


def pixel_digest(pixels: np.ndarray) -> str:
    """A short digest of one decoded image, the same wherever it is decoded to the same pixels."""
    return hashlib.blake2b(pixels.tobytes(), digest_size=8).hexdigest()


def framing_of(folder: Path) -> Framing:
    """How the images of a store are framed, by the name of its folder."""
    found = _FRAMED.search(folder.name)
    return Framing(int(found[2]), cast(Fit, found[1])) if found else DEFAULT_FRAMING


def _name(root: str, framing: Framing, bits: int | None) -> str:
    """Of the store's folder: for people, then for the machine."""
    framed = "" if framing == DEFAULT_FRAMING else f".{framing.fit}{framing.size}"
    depth = "" if bits is None else f" {bits} bits"
    about = f"pixels v{VERSION}.{LAYOUT} {framing.stored}{framed}{depth}\n"
    key = hashlib.sha256(about.encode() + os.fsencode(root))
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", os.path.basename(root)).strip("-")[:40] or "images"
    return f"{readable}{framed}-{key.hexdigest()[:12]}"


def _states(paths: Sequence[PathLike]) -> pd.DataFrame:
    """Path, size and times of each file, by which it is known again; of a row, its archive's."""
    rows = []
    for path in paths:
        name = os.path.abspath(path)
        try:
            stat = os.stat(file_of(name))
            rows.append((name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
        except OSError:
            rows.append((name, _UNREADABLE, 0, 0))
    return pd.DataFrame(rows, columns=_STATE)


def _find(wanted: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """`wanted` with what the index says of each image; NaN where it is missing or has changed."""
    newest = index.drop_duplicates("path", keep="last")
    return wanted.merge(newest, on=_STATE, how="left")


def _read(folder: Path, side: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The whole store as it is at one moment; an empty one if there is none, or none that is whole.

    Another process may add images meanwhile, or clear the cache and begin another store.
    """
    file = folder / INDEX
    try:
        while True:
            before = _moment(file)
            index = pd.read_csv(
                file,
                dtype=_TYPES,
                keep_default_na=False,
                encoding=_NAMES["encoding"],
                encoding_errors=_NAMES["errors"],
            )[_COLUMNS]
            index = index[index["row"] >= 0]  # up to 0.2.0 failures were kept
            pixels = _map(folder, _count(index), side)
            if _moment(file) == before:
                return index, pixels
    except (FileNotFoundError, ValueError, KeyError):
        empty = {name: pd.Series(dtype=_TYPES[name]) for name in _COLUMNS}
        return pd.DataFrame(empty), _map(folder, 0, side)


def _moment(file: Path) -> tuple[int, int, int]:
    stat = file.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _count(index: pd.DataFrame) -> int:
    """Images in pixels.raw; it may hold more, which a killed process left and nobody knows."""
    return int(index["row"].max()) + 1 if len(index) else 0


def _map(folder: Path, count: int, side: int) -> np.ndarray:
    if not count:
        return np.zeros((0, side, side), "uint8")
    return np.memmap(folder / PIXELS, "uint8", "r", shape=(count, side, side))


def _complete(
    folder: Path, wanted: pd.DataFrame, framing: Framing, bits: int | None
) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Decode what is missing, under the store's lock; the store, and `wanted` found in it."""
    index, _ = _read(folder, framing.stored)
    if index.empty:
        shutil.rmtree(folder, ignore_errors=True)  # nothing, or what cannot be read
    folder.mkdir(exist_ok=True)
    found = _find(wanted, index)
    try:
        new = _append(folder, index, found, framing, bits)
    finally:
        if not (folder / INDEX).exists():
            shutil.rmtree(folder, ignore_errors=True)
    index = pd.concat([index, new], ignore_index=True)
    return index, _map(folder, _count(index), framing.stored), _find(wanted, index)


def _append(
    folder: Path, index: pd.DataFrame, found: pd.DataFrame, framing: Framing, bits: int | None
) -> pd.DataFrame:
    """Decode the missing images of `found` behind those of `index`; what the index says of them."""
    missing = found.loc[found["row"].isna(), _STATE].drop_duplicates("path")
    errors = [error for error in found["error"].dropna() if error]
    new: list[tuple[object, ...]] = []
    doubts: Counter[str] = Counter()
    count = kept = _count(index)
    image_bytes = framing.stored**2
    begun, save_s = time.monotonic(), 0.0
    with (
        (folder / PIXELS).open("ab") as file,
        progress_bar("Decoding radiographs", len(missing)) as bar,
    ):
        file.truncate(kept * image_bytes)
        try:
            decoded = threaded_map(partial(_decode, framing=framing, bits=bits), missing["path"])
            for state, (pixels, digest, error, said) in zip(missing.values, decoded, strict=True):
                doubts.update(said)
                if error:
                    errors.append(error)
                    stop_if_too_many_bad(errors, len(found))
                file.write(pixels)
                new.append((*state, -1 if error else count, digest, error))
                count += not error
                bar.advance()
                if time.monotonic() - begun > max(_SAVE_EVERY_S, save_s / _SAVE_SHARE):
                    begun = time.monotonic()
                    kept = _save(folder, file, index, new)
                    save_s = time.monotonic() - begun
        except BaseException:
            with suppress(CxrError, OSError):  # the disk may be full
                kept = _save(folder, file, index, new)
            with suppress(OSError):
                os.truncate(folder / PIXELS, kept * image_bytes)
            raise
        if count > kept:
            _save(folder, file, index, new)
    for doubt, images in doubts.items():
        notice(f"{images:,} of {len(missing):,} images: {doubt}.")
    return _table(new)


def _save(folder: Path, file: BinaryIO, index: pd.DataFrame, new: list[tuple[object, ...]]) -> int:
    """Put the index behind the pixels; returns how many images the store now has."""
    file.flush()
    os.fsync(file.fileno())
    known = pd.concat([index, _table(new)], ignore_index=True)
    known = known[(known["size"] != _UNREADABLE) & (known["row"] >= 0)]
    with atomic_file(folder / INDEX) as temporary:
        known.to_csv(temporary, index=False, **_NAMES)
    return _count(known)


def _table(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=_COLUMNS).astype(_TYPES)


def _decode(
    path: str, framing: Framing, bits: int | None
) -> tuple[bytes, str, str, tuple[str, ...]]:
    """Pixels, their digest, why there are none, and what may be wrong with them."""
    try:
        found = read_radiograph(path, framing, bits=bits)
    except ImageError as error:
        return b"", "", str(error), ()
    return found.pixels.tobytes(), pixel_digest(found.pixels), "", found.warnings


def stop_if_too_many_bad(errors: Sequence[str], total: int) -> None:
    """Stop where so many images are bad that it is no accident.

    Raises:
        DataError: more than 5% of all are.
    """
    if len(errors) > MAX_BAD_SHARE * total:
        raise DataError(
            f"More than {MAX_BAD_SHARE:.0%} of the {total:,} images cannot be decoded, so this is "
            f"no accident. The first: {errors[0]} Fetch the images again, or remove the bad ones."
        )
