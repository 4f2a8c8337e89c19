"""How many bits the values of 16-bit PNGs have: scanners write 10, 12 or 14 of them.

A PNG may say so itself in its sBIT chunk (PNG specification, 11.3.2.4). Without one only the values
tell, and an image alone may be a dark one: of a data set the highest value of all images counts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from cxr_keras.data.content import ImageFile, open_file
from cxr_keras.utils.console import progress_bar
from cxr_keras.utils.files import atomic_file, cache_folder
from cxr_keras.utils.threads import threaded_map

DEPTHS = (8, 10, 12, 14, 16)
FOLDER = "depths"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY = (0, 4)  # colour types of the PNG header: grey, grey with transparency
_PROBED = 64  # files whose headers tell whether a data set has such images


@dataclass(frozen=True)
class DeepPng:
    """A grey PNG of 16 bits.

    Attributes:
        significant: bits that its sBIT chunk says; None without one.
    """

    significant: int | None


def deep_png(path: ImageFile | os.PathLike[str]) -> DeepPng | None:
    """What a file's header says if it is a grey PNG of 16 bits; None for any other file."""
    try:
        with open_file(path) as file:
            head = file.read(33)
            if head[:8] != _SIGNATURE or len(head) < 33 or head[24] != 16 or head[25] not in _GREY:
                return None
            return DeepPng(_significant(file))
    except OSError:
        return None


def _significant(file: BinaryIO) -> int | None:
    """The bits in the sBIT chunk before the image's data."""
    while len(chunk := file.read(8)) == 8:
        length, kind = int.from_bytes(chunk[:4], "big"), chunk[4:]
        if kind == b"sBIT" and length:
            bits = file.read(1)
            return bits[0] if bits and 1 <= bits[0] <= 16 else None
        if kind in (b"IDAT", b"IEND"):
            break
        file.seek(length + 4, os.SEEK_CUR)
    return None


def smallest_depth(highest: int) -> int:
    """The smallest of `DEPTHS` that holds a value."""
    return next((bits for bits in DEPTHS if highest < 1 << bits), DEPTHS[-1])


def white_value(deep: DeepPng | None, highest: int, bits: int | None) -> tuple[int, str]:
    """The value that is white in a grey image of more than 8 bits, and by what that is known.

    Args:
        deep: what its header says.
        highest: its highest value.
        bits: those of the whole data set, see `common_depth`; None for an image alone.
    """
    if deep is not None and deep.significant:
        own = (1 << deep.significant) - 1
        # the specification asks writers to scale values up to 16 bits; not all do
        return (own if highest <= own else 65535), f"{deep.significant} bits, by its sBIT chunk"
    if bits is not None and highest < 1 << bits:
        return (1 << bits) - 1, f"{bits} bits, by the data set's highest value"
    own_bits = smallest_depth(highest)
    return (1 << own_bits) - 1, f"{own_bits} bits, by its own highest value"


def common_depth(paths: Sequence[str]) -> int | None:
    """The bits that hold the highest value of all 16-bit grey PNGs among `paths` without sBIT.

    The headers of a few files tell whether there are any; then all of them are decoded once, until
    a value needs 16 bits, and the answer is kept in the cache.

    Returns:
        One of `DEPTHS`; None where there are no such images.
    """
    step = max(1, len(paths) // _PROBED)
    if not any(map(_has_no_depth, paths[::step])):
        return None
    kept = cache_folder(FOLDER) / f"{_key(paths)}.json"
    try:
        return int(json.loads(kept.read_text(encoding="utf-8"))["bits"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    highest = 0
    with progress_bar("Finding the depth of 16-bit images", len(paths)) as bar:
        for value in threaded_map(_highest, paths):
            highest = max(highest, value)
            if smallest_depth(highest) == DEPTHS[-1]:
                break
            bar.advance()
    bits = smallest_depth(highest)
    with atomic_file(kept) as temporary:
        Path(temporary).write_text(json.dumps({"bits": bits, "highest": highest}))
    return bits


def _has_no_depth(path: str) -> bool:
    deep = deep_png(path)
    return deep is not None and deep.significant is None


def _highest(path: str) -> int:
    """The highest value of a deep image without sBIT; 0 for any other file."""
    if not _has_no_depth(path):
        return 0
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return int(np.asarray(image).max(initial=0))
    except Exception:  # a bad file is refused where it is read
        return 0


def _key(paths: Sequence[str]) -> str:
    """Of these files as they are now."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            stat = os.stat(path)
            digest.update(os.fsencode(path) + f" {stat.st_size} {stat.st_mtime_ns}\n".encode())
        except OSError:
            continue
    return digest.hexdigest()[:24]
