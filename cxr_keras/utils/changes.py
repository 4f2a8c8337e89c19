"""Several files that change together or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cxr_keras.errors import CxrError
from cxr_keras.utils.files import cannot_write


@contextmanager
def change_together(target: Path) -> Iterator[Path]:
    """Yield a folder; what the body writes into it goes to the same places beside `target`.

    Nothing is touched until all of it is written: then one rename decides, and the files are moved.
    A crash or full disk before it leaves the old files whole; after it, `finish_change` moves the
    rest. Let no other process do the same meanwhile.

    Args:
        target: the file that the change is about, in the folder that holds all of them.

    Raises:
        CxrError: it cannot be written: no room, no right.
    """
    new = target.with_name(f".{target.name}.new.tmp")
    try:
        shutil.rmtree(new, ignore_errors=True)  # of a try that was killed
        new.mkdir()
        yield new
        new.rename(_decided(target))
    except CxrError as error:  # names a file's place for the meantime
        sentence = str(error).replace(f"{new}{os.sep}", f"{target.parent}{os.sep}")
        raise type(error)(sentence) from error
    except OSError as error:
        raise CxrError(cannot_write(target, error)) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    finish_change(target)


def finish_change(target: Path) -> None:
    """Move what a decided change of `target` has not moved; nothing where there is none.

    Any reader may call it, several at once, too.

    Raises:
        CxrError: this user may not write there.
    """
    decided = _decided(target)
    if not decided.is_dir():
        return
    try:
        inside = sorted(decided.rglob("*"))
        for path in (path for path in inside if not path.is_dir()):
            place = target.parent / path.relative_to(decided)
            place.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another process has moved it
                os.replace(path, place)
        for folder in (*(path for path in reversed(inside) if path.is_dir()), decided):
            with suppress(FileNotFoundError):
                folder.rmdir()
    except OSError as error:
        raise CxrError(
            f"A change of {target} was cut short before all its files were in their places. "
            f"{cannot_write(target, error)}"
        ) from error


def _decided(target: Path) -> Path:
    return target.with_name(f".{target.name}.new")
