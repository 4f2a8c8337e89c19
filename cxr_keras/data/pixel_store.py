"""The pixel store: each radiograph decoded once, kept as one memory-mapped uint8 array.

A store lies in the cache folder under a key made of the decoder's version and of every file's
path, size, and times of modification and of change, so a changed image or setting is another
store. It appears under its key only when it is whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras.data.images import SIDE, VERSION, read_image
from cxr_keras.errors import DataError, ImageError
from cxr_keras.utils.arrays import open_rows, row_writer
from cxr_keras.utils.console import progress_bar
from cxr_keras.utils.files import build_once, cache_folder
from cxr_keras.utils.threads import threaded_map

LAYOUT = 1  # of the store: raise it when that changes
MAX_BAD_SHARE = 0.05

_PIXELS, _INDEX = "pixels.npy", "index.csv"


@dataclass(frozen=True)
class PixelStore:
    """Decoded radiographs.

    Attributes:
        folder: where the store lies.
        index: one row per image, in the store's order: "path", "digest" (of the decoded pixels),
            "error" (empty for a good image; a bad one's pixels are zeros).
    """

    folder: Path
    index: pd.DataFrame

    @property
    def pixels(self) -> np.ndarray:
        """All images, uint8 (N, 256, 256), memory-mapped and read-only."""
        return open_rows(self.folder / _PIXELS)

    def bad(self) -> pd.DataFrame:
        """The files that could not be decoded: columns path, error."""
        return self.index.loc[self.index["error"] != "", ["path", "error"]]


def open_store(paths: Sequence[str | Path]) -> PixelStore:
    """The store of `paths` (in that order), decoding them if no store of theirs exists.

    Two processes that ask for the same store share it: the second waits for the first.

    Raises:
        DataError: more than 5% of the files are bad, a file vanished, or the disk is full.
    """
    key = _key(paths)
    folder = cache_folder("pixels") / key
    waiting = "Another process is decoding the same images; waiting for it."
    try:
        build_once(folder, lambda new: _write(new, [Path(p) for p in paths]), waiting=waiting)
    except OSError as error:
        raise DataError(
            f"The pixel store {folder} cannot be written ({error.strerror or error}). "
            f"It needs {len(paths) * SIDE * SIDE / 1e9:.1f} GB; set $CXR_KERAS_CACHE to a "
            "folder with room."
        ) from error
    index = pd.read_csv(folder / _INDEX, dtype=str, keep_default_na=False)
    return PixelStore(folder, index)


def pixel_digest(pixels: np.ndarray) -> str:
    """A short digest of one decoded image, the same wherever it is decoded to the same pixels."""
    return hashlib.blake2b(pixels.tobytes(), digest_size=8).hexdigest()


def _key(paths: Sequence[str | Path]) -> str:
    digest = hashlib.sha256(f"pixels v{VERSION}.{LAYOUT} {SIDE}".encode())
    for path in paths:
        try:
            stat = os.stat(path)
            state = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        except OSError as error:
            state = f"unreadable {error.errno}"
        digest.update(f"\n{os.path.abspath(path)} {state}".encode())
    return digest.hexdigest()[:20]


def _write(folder: Path, paths: list[Path]) -> None:
    def decode(path: Path) -> tuple[bytes, str, str]:
        """Pixels, their digest, and why there are none."""
        try:
            image = read_image(path)
        except ImageError as error:
            return bytes(SIDE * SIDE), "", str(error)
        return image.tobytes(), pixel_digest(image), ""

    digests: list[str] = []
    errors: list[str] = []
    with (
        row_writer(folder / _PIXELS, (len(paths), SIDE, SIDE), "uint8") as file,
        progress_bar("Decoding radiographs", len(paths)) as bar,
    ):
        for pixels, digest, error in threaded_map(decode, paths):
            digests.append(digest)
            errors.append(error)
            if error:
                _stop_if_too_many_bad(errors, len(paths))
            file.write(pixels)
            bar.advance()
    index = pd.DataFrame({"path": map(str, paths), "digest": digests, "error": errors})
    index.to_csv(folder / _INDEX, index=False, errors="backslashreplace")


def _stop_if_too_many_bad(errors: list[str], total: int) -> None:
    bad = [error for error in errors if error]
    if len(bad) > MAX_BAD_SHARE * total:
        raise DataError(
            f"More than {MAX_BAD_SHARE:.0%} of the {total:,} images cannot be decoded, so this is "
            f"no accident. The first: {bad[0]} Fetch the images again, or remove the bad ones."
        )
