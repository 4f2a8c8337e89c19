"""What lies in the cache folder: listed by kind, size and age, and cleared.

Everything in the cache can be made again. Only what this program wrote is ever deleted: folders of
its own kinds that hold the file by which each kind is known, and what a killed process left
half-written. A link is neither followed nor deleted.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cxr_keras.data import array_images, phantom, pixel_store, preparation
from cxr_keras.framing import Framing
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import cache_folder, hold_lock

DAY_S = 86_400.0

# folder in the cache → (what it holds, files one of which each entry has)
KINDS = {
    phantom.FOLDER: ("phantoms", (phantom.MARKER,)),
    pixel_store.FOLDER: ("pixel store", (pixel_store.INDEX, pixel_store.PIXELS)),
    array_images.FOLDER: ("unpacked images", (array_images.PIXELS,)),
    "features": ("features of frozen layers", ("features.npy",)),
    preparation.FOLDER: ("manifest", (preparation.MANIFEST,)),
}
LEFTOVER = "half-written"
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[^.]+\.tmp")  # of `atomic_folder`


@dataclass(frozen=True)
class Entry:
    """One thing in the cache.

    Attributes:
        what: "phantoms", "pixel store", "unpacked images", "features of frozen layers",
            "manifest", or "half-written" for what a killed process left.
        folder: where it lies.
        size: in bytes.
        days: since it was last used.
        framing: of a pixel store: how large its images are, and how much of them.
    """

    what: str
    folder: Path
    size: int
    days: float
    framing: Framing | None = None


def list_cache() -> list[Entry]:
    """Everything in the cache, what was used last first."""
    root = cache_folder()
    now = time.time()
    found = []
    for kind in KINDS:
        for folder, what in _folders(root / kind, *KINDS[kind]):
            with suppress(FileNotFoundError):  # another process has cleared it meanwhile
                days = max(0.0, now - folder.stat().st_mtime) / DAY_S
                is_store = kind == pixel_store.FOLDER and what != LEFTOVER
                framing = pixel_store.framing_of(folder) if is_store else None
                found.append(Entry(what, folder, _size(folder), days, framing))
    return sorted(found, key=lambda entry: entry.days)


def clear_cache(older_than: float = 0.0) -> list[Entry]:
    """Delete what is in the cache; says what is left because another process works on it.

    Args:
        older_than: delete only what was last used more than this many days ago.

    Returns:
        What was deleted.
    """
    return [entry for entry in list_cache() if entry.days >= older_than and _delete(entry)]


def total_size(entries: Sequence[Entry]) -> int:
    """Bytes of all of them."""
    return sum(entry.size for entry in entries)


def _folders(kind: Path, what: str, files: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """The folders of one kind that are this program's, and what each is."""
    if kind.is_symlink() or not kind.is_dir():
        return
    for folder in sorted(kind.iterdir()):
        if folder.is_symlink() or not folder.is_dir():
            continue
        if _TEMPORARY.fullmatch(folder.name):
            yield folder, LEFTOVER
        elif any((folder / name).is_file() for name in files):
            yield folder, what


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def _delete(entry: Entry) -> bool:
    """Delete it under its lock; False, with a notice, if that cannot be."""
    folder = entry.folder
    left = _TEMPORARY.fullmatch(folder.name)
    try:
        with hold_lock(folder.with_name(left["name"]) if left else folder, waiting=None):
            gone = folder if left else folder.with_name(f".{folder.name}.cleared.tmp")
            if not left:
                folder.rename(gone)  # so that nobody takes a half-deleted one for whole
            shutil.rmtree(gone)
    except BlockingIOError:
        notice(f"{folder} is left: another process is working on it.")
        return False
    except OSError as error:
        notice(f"{folder} cannot be deleted: {error.strerror or error}.")
        return False
    return True
