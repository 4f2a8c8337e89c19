"""Where things lie on disk, and how a file gets its final name.

The cache holds what can be made again: phantoms, pixel stores, weights. `$CXR_KERAS_CACHE`
moves it; otherwise it is the platform's own cache folder.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_keras.errors import CxrError
from cxr_keras.utils.console import notice

if TYPE_CHECKING:
    import filelock
    import pandas as pd

CACHE_VARIABLE = "CXR_KERAS_CACHE"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def cache_folder(*parts: str) -> Path:
    """A folder below the cache, made if missing.

    Raises:
        CxrError: it cannot be made or written.
    """
    root = os.environ.get(CACHE_VARIABLE)
    if not root:
        import platformdirs

        root = platformdirs.user_cache_dir("cxr-keras", appauthor=False)
    folder = Path(root).expanduser().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CxrError(
            f"The cache folder {folder} cannot be made ({error.strerror}). "
            f"Set ${CACHE_VARIABLE} to a folder that you can write."
        ) from error
    return folder


def part_of_file_name(text: str) -> str:
    """`text` as it may stand in the name of a file, wherever it comes from: letters and digits."""
    return re.sub(r"[^\w.-]+", "_", text)


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` only if the body succeeds.

    A crash, Ctrl-C or full disk leaves the old `target` whole and no half-written file under
    its name.

    Raises:
        CxrError: it cannot be written: no room, no right, no such folder.
    """
    temporary = None
    try:
        new = _temporary_name(target)
        new.touch(exist_ok=False)  # with the rights that the system gives a new file
        temporary = new
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise CxrError(cannot_write(target, error)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; rename it to `target` if the body succeeds."""
    temporary = _temporary_name(target)
    temporary.mkdir()
    try:
        yield temporary
        os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def hold_lock(folder: Path, *, waiting: str | None) -> Iterator[None]:
    """Hold the lock of a folder of the cache (a file beside it); a killed process lets go of it.

    Args:
        folder: what is locked; it need not exist.
        waiting: what to say before waiting for another process; None not to wait.

    Raises:
        BlockingIOError: another process holds it, and `waiting` is None.
    """
    import filelock

    with acquired(filelock.FileLock(folder.with_suffix(".lock")), waiting=waiting):
        yield


@contextmanager
def acquired(lock: filelock.BaseFileLock, *, waiting: str | None) -> Iterator[None]:
    """Hold `lock` while the body runs; arguments and errors are those of `hold_lock`."""
    import filelock

    try:
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        if waiting is None:
            raise BlockingIOError(f"another process holds {lock.lock_file}") from error
        notice(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def build_once(folder: Path, write: Callable[[Path], None], *, waiting: str) -> None:
    """Make `folder` unless it is there: `write` fills a temporary one that then gets its name.

    Two processes share the work: the second says `waiting` and waits for the first. What a killed
    one left half-written is removed.
    """
    with hold_lock(folder, waiting=waiting):
        if not folder.exists():
            remove_leftovers(folder)
            with atomic_folder(folder) as temporary:
                write(temporary)
        mark_used(folder)


def mark_used(folder: Path) -> None:
    """Make now the time at which a folder of the cache was last used."""
    with suppress(OSError):  # it may be another user's
        os.utime(folder)


def make_parent(target: Path) -> None:
    """Make the folder that `target` will lie in.

    Raises:
        CxrError: it cannot be made.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CxrError(cannot_write(target, error)) from error


def cannot_write(target: Path, error: OSError) -> str:
    """Why `target` cannot be written and what to do, in a sentence or two."""
    if error.errno in _NO_ROOM:
        remedy = "Make room on that disk, or choose another folder"
    else:
        remedy = "Choose a folder that you can write"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return (
        f"{target} cannot be written ({reason}). {remedy}: with --output-dir or --out, or with "
        f"${CACHE_VARIABLE} if it lies in the cache."
    )


def remove_leftovers(target: Path) -> None:
    """Delete what a killed `atomic_folder` of `target` left; call it under `target`'s lock."""
    for path in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write a small text file atomically, as UTF-8 with plain newlines."""
    with atomic_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_table(table: pd.DataFrame, target: Path) -> None:
    """Write a CSV atomically, numbers with seven significant digits."""
    with atomic_file(target) as temporary:
        table.to_csv(temporary, index=False, float_format="%.7g")


def _temporary_name(target: Path) -> Path:
    """A name beside `target` that nothing has yet."""
    return target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
