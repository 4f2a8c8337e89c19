"""NIH's archives, unpacked with suspicion: images only, all of an archive or nothing of it."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path

from cxr_keras.data.download.fetch import MB, disk_errors, locked, size_of
from cxr_keras.errors import DataError
from cxr_keras.utils.console import progress_bar
from cxr_keras.utils.files import remove_leftovers, write_text

# Limits of an archive: NIH's hold up to 11,000 images of at most a few MB, hardly compressible.
MAX_MEMBERS = 20_000
MAX_MEMBER_BYTES = 64 * MB
MAX_RATIO = 10

_MEMBER = re.compile(r"images/([0-9]{8}_[0-9]{3}\.png)")
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}
_DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError)


def extract_archive(archive: Path, folder: Path) -> int:
    """Unpack one of NIH's archives into `folder/images`: all of its images, or none.

    Only regular members `images/########_###.png` are accepted; folders are passed over. On
    success `folder/.done/<archive's name>` lists the images.

    Returns:
        How many images.

    Raises:
        DataError: a member of another kind or name, a bomb, a damaged archive, a full disk.
    """
    if not archive.is_file():
        raise DataError(f"There is no archive {archive}. Fetch it with `cxr-keras download`.")
    with disk_errors(folder):
        images = folder / "images"
        images.mkdir(parents=True, exist_ok=True)
        with locked(folder / archive.name):
            remove_leftovers(images / archive.name)
            (folder / ".done").mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(
                prefix=f".{archive.name}.", suffix=".tmp", dir=images, ignore_cleanup_errors=True
            ) as temporary:
                names = _unpack(archive, Path(temporary))
                for name in names:
                    os.replace(Path(temporary, name), images / name)
            write_text(folder / ".done" / archive.name, "".join(f"{name}\n" for name in names))
    return len(names)


class _Gunzip(gzip.GzipFile):
    """Refuses the giant reads that a hostile header asks for; remembers the last one."""

    last = b""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_MEMBER_BYTES:
            raise tarfile.ReadError(f"a header asks for {size} bytes")
        self.last = super().read(size)
        return self.last


def _unpack(archive: Path, folder: Path) -> list[str]:
    """Write the images of `archive` into `folder` itself; return their names."""
    images: list[str] = []
    room = max(MAX_MEMBER_BYTES, MAX_RATIO * size_of(archive))
    title = f"Unpacking {archive.name} (MB)"
    try:
        with (
            archive.open("rb") as raw,
            _Gunzip(fileobj=raw) as stream,
            tarfile.open(fileobj=stream, mode="r:") as tar,
            progress_bar(title, size_of(archive) // MB) as bar,
        ):
            for count, member in enumerate(tar, 1):
                why = _objection(member, count, room)
                if why:
                    raise DataError(
                        f"{archive} is refused: its member {member.name[:100]!r} {why}. Nothing of "
                        "it was kept; delete it and fetch NIH's own with `cxr-keras download`."
                    )
                if not member.isdir():
                    images.append(_write_image(tar, member, folder))
                    room -= member.size
                if new := raw.tell() // MB - bar.done:
                    bar.advance(new)
            _check_end(stream, images)
    except _DAMAGE as error:
        raise DataError(
            f"{archive} is damaged ({error}). Delete it and run `cxr-keras download` again."
        ) from error
    return images


def _objection(member: tarfile.TarInfo, count: int, room: int) -> str | None:
    """Why `member` has no place in an archive of radiographs; None if it has."""
    if count > MAX_MEMBERS:
        return f"is one more than the {MAX_MEMBERS:,} allowed"
    if member.isdir():
        return None
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        return f"is {_KINDS.get(member.type, 'no plain file')}"
    if not _MEMBER.fullmatch(member.name):
        return "is not named like images/00000001_000.png"
    if not 0 < member.size <= MAX_MEMBER_BYTES:
        return f"is {member.size:,} bytes, not between 1 and {MAX_MEMBER_BYTES:,}"
    if member.size > room:
        return f"makes its content more than {MAX_RATIO} times its own size"
    return None


def _write_image(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> str:
    name = member.name.removeprefix("images/")
    content = tar.extractfile(member)
    assert content is not None  # a regular member
    try:
        with (folder / name).open("xb") as image:
            shutil.copyfileobj(content, image)
    except FileExistsError as error:
        raise tarfile.ReadError(f"it holds {member.name} twice") from error
    return name


def _check_end(stream: _Gunzip, images: list[str]) -> None:
    """Read to the end: only there gzip compares its sum, and tarfile ends at a spoilt header."""
    if stream.last != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it stops before its end")
    while stream.read(MB):
        pass
    if not images:
        raise tarfile.ReadError("no radiograph in it")
