"""A queue of files on disk: what is in it survives a kill, and leaves it when it is answered."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

TEMPORARY = ".part"


class Spool:
    """A folder of files that wait. Each has a name of its own, so none takes another's place.

    One process at a time may use it.

    Args:
        folder: made if it is not there; what an interrupted `put` left in it is removed.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for half in folder.glob(f"*{TEMPORARY}"):
            half.unlink()
        self._lock = threading.Lock()
        self._count = 0
        self.filled = threading.Event()

    def put(self, name: str, content: bytes, check: Callable[[Path], object] | None = None) -> Path:
        """Put a file in; when this returns, it is on disk.

        Args:
            name: how its name ends; the rest says when it came.
            content: its bytes.
            check: is called with the file before it counts; what it raises is passed on, and the
                file is gone.

        Returns:
            The file.
        """
        with self._lock:
            self._count += 1
            place = self.folder / f"{time.time_ns():020d}-{self._count:06d}-{name}"
        half = place.with_name(place.name + TEMPORARY)
        try:
            _write_down(half, content)
            if check is not None:
                check(half)
            half.replace(place)
            _sync_folder(self.folder)
        finally:
            half.unlink(missing_ok=True)
        self.filled.set()
        return place

    def waiting(self) -> list[Path]:
        """The files in it, the oldest first."""
        self.filled.clear()
        names = [entry.name for entry in os.scandir(self.folder) if entry.is_file()]
        return [self.folder / name for name in sorted(names) if not name.endswith(TEMPORARY)]


def write_synced(target: Path, content: bytes) -> None:
    """Write a file whole; when this returns, it is on disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(target.name + TEMPORARY)
    try:
        _write_down(half, content)
        half.replace(target)
        _sync_folder(target.parent)
    finally:
        half.unlink(missing_ok=True)


def _write_down(file: Path, content: bytes) -> None:
    with file.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
