"""One large file from the network: resumed where it stopped, checked before it gets its name.

A file that arrives is `<name>.part` until its size and hash are right, so every step may be
killed and run again.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from cxr_keras.errors import DataError
from cxr_keras.utils.console import notice, progress_bar
from cxr_keras.utils.files import acquired

TIMEOUT_S = 30.0
RETRY_WAITS_S = (0.5, 1.5, 4.0)
MB = 1_000_000
TRY_AGAIN = {408, 429, 500, 502, 503, 504}
_RANGE_REFUSED = 416


def fetch(
    url: str,
    target: Path,
    *,
    size: int | None,
    md5: str,
    advice: str = "",
    waits: Sequence[float] = RETRY_WAITS_S,
) -> Path:
    """Bring `url` to `target`, unless a right file is already there.

    What arrives is kept in `<target>.part`, and the next call goes on from it. Two processes that
    fetch the same target share it: the second waits for the first.

    Args:
        url: an http or https address.
        target: the final name; its folder is made if missing.
        size: in bytes; None for what the server says.
        md5: hex digits.
        advice: a sentence added when the server cannot or will not give the file.
        waits: seconds before each new try; the count starts anew when 1 MB has come through.

    Returns:
        `target`.

    Raises:
        DataError: the server refused, the connection kept failing, the file is not the expected
            one (it is deleted), or it cannot be written (the part is kept).
    """
    transfer = Transfer(url, target, size, md5, advice)
    part = part_of(target)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target):
            if target.is_file():
                problem = transfer.problem(target)
                if problem is None:
                    return target
                notice(f"{target} is not the published file ({problem}): fetching it again.")
            _receive_all(transfer, part, waits)
            problem = transfer.problem(part)
            if problem:
                part.unlink()
                raise DataError(
                    f"{url} is not the published file: {problem}. What came was deleted; try "
                    f"again, and if it comes again the source is wrong. {advice}".rstrip()
                )
            os.replace(part, target)
    return target


class _Cut(Exception):
    """A connection that failed and may be tried again."""


@dataclass(frozen=True)
class Transfer:
    """A file on its way: where from, where to, and how to know it."""

    url: str
    target: Path
    size: int | None
    md5: str
    advice: str

    def problem(self, path: Path) -> str | None:
        """What was expected and what `path` is; None for a right file."""
        size = size_of(path)
        if self.size is not None and size != self.size:
            return f"expected {self.size:,} bytes, received {size:,} bytes"
        received = _md5(path)
        if received != self.md5.lower():
            return f"expected MD5 {self.md5}, received {received}"
        return None

    def refused(self, why: str) -> DataError:
        """The error of a server that will not give the file."""
        return DataError(
            f"{self.url} cannot be fetched: {why}. "
            f"Check that the address opens in a browser. {self.advice}".rstrip()
        )


def _receive_all(transfer: Transfer, part: Path, waits: Sequence[float]) -> None:
    """Fill `part`, over as many connections as `waits` allows."""
    tries, furthest = 0, size_of(part)
    while not _is_whole(transfer, part):
        try:
            _receive(transfer, part)
            return
        except _Cut as cut:
            if size_of(part) >= furthest + MB:
                tries, furthest = 0, size_of(part)
            if tries == len(waits):
                raise DataError(
                    f"{transfer.url} cannot be fetched: {cut}, {tries + 1} times in a row. The "
                    f"{size_of(part):,} bytes that came are kept: run it again later to go on. "
                    f"{transfer.advice}".rstrip()
                ) from cut
            time.sleep(waits[tries])
            tries += 1


def _is_whole(transfer: Transfer, part: Path) -> bool:
    """Whether all of the file is in `part`."""
    if transfer.size is None:
        return size_of(part) > 0 and transfer.problem(part) is None
    return size_of(part) == transfer.size


def _receive(transfer: Transfer, part: Path) -> None:
    """One connection: append to `part` if the server goes on from there, else start over."""
    with _open(transfer, part) as response:
        if response.headers.get_content_type() == "text/html":
            raise transfer.refused("a web page came instead of a file (a login or error page?)")
        start, total = _extent(response, part)
        if transfer.size is not None and total not in (None, transfer.size):
            part.unlink(missing_ok=True)
            raise transfer.refused(f"expected {transfer.size:,} bytes, received {total:,} bytes")
        size = transfer.size if total is None else total
        if size is None:
            raise transfer.refused("the server does not say how large the file is")
        after = f" after the first {start // MB:,}" if start else ""
        title = f"{transfer.target.name} (MB{after})"
        steps = size // MB - start // MB
        with part.open("ab" if start else "wb") as file, progress_bar(title, steps) as bar:
            done = start
            for chunk in _chunks(response):
                file.write(chunk)
                done += len(chunk)
                if new := done // MB - start // MB - bar.done:
                    bar.advance(new)
                if done > size:
                    return  # the check says what is wrong
    if done < size:
        raise _Cut(f"the connection was cut after {done:,} of {size:,} bytes")


def _open(transfer: Transfer, part: Path) -> http.client.HTTPResponse:
    if not transfer.url.startswith(("http://", "https://")):
        raise transfer.refused("it is no http or https address")
    headers = {"User-Agent": "cxr-keras"}
    if have := size_of(part):
        headers["Range"] = f"bytes={have}-"
    try:
        request = urllib.request.Request(transfer.url, headers=headers)
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"the server answered {error.code} {error.reason}"
        if error.code == _RANGE_REFUSED:
            part.unlink(missing_ok=True)
        elif error.code not in TRY_AGAIN:
            raise transfer.refused(answer) from error
        raise _Cut(answer) from error
    except (ValueError, http.client.InvalidURL) as error:
        raise transfer.refused(f"it is no address ({error})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"there is no connection ({getattr(error, 'reason', None) or error})") from error


def _extent(response: http.client.HTTPResponse, part: Path) -> tuple[int, int | None]:
    """Where in the file the response starts, and the whole file's size if the server says it."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0, response.length
    match = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not match or int(match[1]) != size_of(part):
        part.unlink(missing_ok=True)
        raise _Cut("the server sent another part of the file than was asked for")
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read(MB // 4):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"the connection was cut ({error})") from error


def part_of(target: Path) -> Path:
    """Where `target` lies until it is whole."""
    return target.with_name(f"{target.name}.part")


def size_of(path: Path) -> int:
    """Bytes of a file, 0 for none."""
    return path.stat().st_size if path.is_file() else 0


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    title = f"Checking {path.name} (MB)"
    with path.open("rb") as file, progress_bar(title, size_of(path) // MB) as bar:
        while chunk := file.read(MB):
            digest.update(chunk)
            bar.advance()
    return digest.hexdigest()


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock beside `target`, waiting for another process that holds it.

    Who holds it may ask for it again: one lock may cover a fetch and what is done with the file.
    """
    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"), is_singleton=True)
    with acquired(lock, waiting=f"Another process is fetching {target.name}; waiting for it."):
        yield


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a missing right and the like into a sentence."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}). What has been fetched is "
            "kept: make room, or name a folder that you can write, and run it again."
        ) from error
