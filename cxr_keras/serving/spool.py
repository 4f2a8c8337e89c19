"""A queue of files on disk: what is in it survives a kill, and leaves it when it is answered."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

TEMPORARY = ".part"


class Spool:
    """A folder of files that wait.

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

    def put(self, name: str, content: bytes, check: Callable[[Path], object] | None = None) -> None:
        """Put a file in; when this returns, it is on disk. One of the same name is replaced.

        Args:
            name: of the file.
            content: its bytes.
            check: is called with the file before it counts; what it raises is passed on, and the
                file is gone.
        """
        with self._lock:
            self._count += 1
            half = self.folder / f"{self._count}-{name}{TEMPORARY}"
        try:
            with half.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if check is not None:
                check(half)
            half.replace(self.folder / name)
            _sync_folder(self.folder)
        finally:
            half.unlink(missing_ok=True)
        self.filled.set()

    def waiting(self) -> list[Path]:
        """The files in it, the oldest first."""
        self.filled.clear()
        found = []
        for entry in os.scandir(self.folder):
            if entry.is_file() and not entry.name.endswith(TEMPORARY):
                found.append((entry.stat().st_mtime_ns, entry.name))
        return [self.folder / name for _, name in sorted(found)]


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
