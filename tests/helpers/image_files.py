"""Image files of every kind, and what they are made of."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def written(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def deep(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype("uint16") * 257)


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def twice(image: Image.Image) -> dict[str, object]:
    return {"save_all": True, "append_images": [image.transpose(Image.Transpose.ROTATE_180)]}


def lying(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.ROTATE_90)


# the same image, as every kind of file that radiographs come as …
KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "grey": lambda image: written(image, "PNG"),
    "grey, orientation 1": lambda image: written(image, "PNG", exif=orientation(1)),
    "grey, lying": lambda image: written(lying(image), "PNG", exif=orientation(6)),
    "grey, alpha": lambda image: written(image.convert("LA"), "PNG"),
    "colours": lambda image: written(image.convert("RGB"), "PNG"),
    "colours, alpha": lambda image: written(image.convert("RGBA"), "PNG"),
    "palette": lambda image: written(image.convert("P"), "PNG"),
    "16 bits": lambda image: written(deep(image), "PNG"),
    "jpeg": lambda image: written(image, "JPEG"),
    "jpeg, lying": lambda image: written(lying(image), "JPEG", exif=orientation(6)),
    "jpeg, progressive": lambda image: written(image, "JPEG", progressive=True),
    "jpeg, colours": lambda image: written(image.convert("RGB"), "JPEG"),
    "jpeg, colours, progressive": lambda f: written(f.convert("RGB"), "JPEG", progressive=True),
    "jpeg, CMYK": lambda image: written(image.convert("RGB").convert("CMYK"), "JPEG"),
}
# … and files that are another image, several, or none
ODD_KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "1 bit": lambda image: written(image.convert("1"), "PNG"),
    "one grey means nothing": lambda image: written(image, "PNG", transparency=3),
    "palette, alpha": lambda f: written(f.convert("P"), "PNG", transparency=bytes(range(256))),
    "animated": lambda image: written(image, "PNG", **twice(image)),
    "several jpegs": lambda image: written(image, "MPO", **twice(image)),
    "gif": lambda image: written(image, "GIF", **twice(image)),
    "bmp": lambda image: written(image, "BMP"),
}


@functools.cache
def image_files() -> dict[str, bytes]:
    """A small file of each kind."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 24), "uint8"))
    return {name: make(noise) for name, make in (KINDS | ODD_KINDS).items()}


Parts = list[tuple[bytes, bytes]]  # kind and content of a PNG's chunks, a JPEG's segments


def take_apart(content: bytes) -> Parts:
    parts, at = [], 0
    if content.startswith(PNG_HEAD):
        at = len(PNG_HEAD)
        while at < len(content):
            length, kind = struct.unpack_from(">I4s", content, at)
            parts.append((kind, content[at + 8 : at + 8 + length]))
            at += 12 + length
        return parts
    at = 2
    while content[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", content, at + 2)
        parts.append((content[at : at + 2], content[at + 4 : at + 2 + length]))
        at += 2 + length
    return [*parts, (b"", content[at:])]


def put_together(parts: Parts, head: bytes) -> bytes:
    if head == PNG_HEAD:
        return head + b"".join(png_chunk(kind, data) for kind, data in parts)
    return head + b"".join(
        kind + struct.pack(">H", len(data) + 2) + data if kind else data for kind, data in parts
    )


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def exif_block(order: str, entries: list[tuple[int, int, int, int]], offset: int) -> bytes:
    """A TIFF directory, the form of EXIF; entries are tag, type, count and value."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    rows = b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    return mark + struct.pack(order + "IH", offset, len(entries)) + rows + bytes(4)


def grey_png(
    width: int, height: int, *after: tuple[bytes, bytes], before: tuple[bytes, bytes] | None = None
) -> bytes:
    """A black image, with chunks after or before its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(min((width + 1) * height, 2_000_000)))  # of a forged size, a few
    first = [before] if before else []
    parts = [(b"IHDR", header), *first, (b"IDAT", rows), *after, (b"IEND", b"")]
    return put_together(parts, PNG_HEAD)


def grey_jpeg(kind: bytes, data: bytes) -> bytes:
    """An image with one more segment."""
    parts = take_apart(image_files()["jpeg, colours"])
    return put_together([parts[0], (kind, data), *parts[1:]], b"\xff\xd8")
