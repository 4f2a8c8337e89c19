"""Folders that many tests read and none may write to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Stamps = dict[str, tuple[int, int]]  # of each file: its size, and when it was last written

_watched: dict[Path, Stamps] = {}


@contextmanager
def shared(folder: Path) -> Iterator[Path]:
    """Watch `folder` while tests share it: the one that writes into it fails.

    Raises:
        AssertionError: at the end, if what is in it is not what was there.
    """
    before = digests(folder)
    _watched[folder] = stamps(folder)
    try:
        yield folder
    finally:
        del _watched[folder]
    assert digests(folder) == before, f"{folder} is shared; a test changed what is in it"


def assert_untouched() -> None:
    """Fail if a shared folder was written to since the last call; say which files."""
    changed = {}
    for folder, before in _watched.items():
        _watched[folder] = after = stamps(folder)
        if after != before:
            changed[folder] = sorted({name for name, _ in before.items() ^ after.items()})
    assert not changed, f"written to while shared; copy it, or give another folder: {changed}"


def stamps(folder: Path) -> Stamps:
    """What tells cheaply, after each test, that a file was written, added or removed."""
    return {
        str(path.relative_to(folder)): ((state := path.stat()).st_size, state.st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def digests(folder: Path) -> dict[str, str]:
    """The content of every file in `folder`."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
