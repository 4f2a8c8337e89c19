"""NIH's archives in small: three images, and whatever else a test puts beside them."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

IMAGES = {f"0000000{n}_000.png": random.Random(n).randbytes(5000) for n in (1, 2, 3)}


def member(name: str, content: bytes = b"image", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def write_archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """The images, with `members` after the first of them."""
    images = [member(f"images/{name}", content) for name, content in IMAGES.items()]
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for info, content in [images[0], *members, *images[1:]]:
            tar.addfile(info, io.BytesIO(content))
    return path


def everything_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }
