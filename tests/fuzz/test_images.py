"""Any bytes are an image or an `ImageError`."""

from __future__ import annotations

import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
from helpers.fuzzing import apply_all, assert_sentence, confined, edits, fuzz
from helpers.image_files import (
    KINDS,
    PNG_HEAD,
    exif_block,
    grey_jpeg,
    grey_png,
    image_files,
    put_together,
    take_apart,
)
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from cxr_keras.data.images import read_image
from cxr_keras.errors import ImageError


def wedge(width: int, height: int) -> Image.Image:
    """An image that is black at its upper left and white at its lower right."""
    across, down = np.linspace(0, 127, width), np.linspace(0, 128, height)
    return Image.fromarray(np.add.outer(down, across).astype("uint8"))


def plain_reading(image: Image.Image) -> np.ndarray:
    shorter = min(image.size)
    width, height = (side * 256 // shorter for side in image.size)
    array = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    top, left = (height - 256) // 2, (width - 256) // 2
    return array[top : top + 256, left : left + 256]


@fuzz(
    given(st.sampled_from(sorted(KINDS)), st.integers(16, 300), st.integers(16, 300)),
    # FOUND: a plain grey JPEG was an AssertionError, and so was a PNG with EXIF but not turned
    example("jpeg", 300, 280),
    example("jpeg, progressive", 300, 280),
    example("grey, orientation 1", 300, 280),
    cost=2,
)
def test_an_image_reads_the_same_from_every_kind_of_file(kind, width, height):
    image = wedge(width, height)
    read, escaped = read_bytes(KINDS[kind](image))
    assert not escaped
    assert isinstance(read, np.ndarray), read
    np.testing.assert_allclose(read.astype(int), plain_reading(image).astype(int), atol=16)


def read_bytes(content: bytes) -> tuple[np.ndarray | ImageError, list[str]]:
    """What a file of this content is, and the warnings that came with it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.png")
        path.write_bytes(content)
        with confined() as escaped:
            try:
                read = read_image(path)
            except ImageError as error:
                assert_sentence(error, path)
                read = error
    return read, [str(warning.message) for warning in escaped]


big = st.integers(0, 2**32 - 1)
exif_blocks = st.builds(
    exif_block,
    st.sampled_from("<>"),
    st.lists(
        st.tuples(
            st.sampled_from([0x0112, 0x0112, 0x011A, 0x8769, 0x8825, 0xA005, 0xB001, 0xB002]),
            st.integers(0, 14),
            st.integers(0, 9) | big,
            st.integers(0, 64) | big,
        ),
        max_size=3,
    ),
    st.sampled_from([8, 8, 8, 0, 9, 2**31]),
)
sizes = st.sampled_from(
    [0, 1, 7, 24, 300, 8_900, 9_400, 13_000, 60_000, 65_535, 2**31 - 1, 2**32 - 1]
)
payloads = st.one_of(
    st.binary(max_size=30),
    exif_blocks,
    st.builds(bytes, st.integers(0, 40)),
    st.binary(max_size=9).map(lambda b: b"key\0\0" + zlib.compress(b)),
    st.just(b"Raw profile type exif\0\nexif\n      8\n45786966zz"),
)
PNG_KINDS = (
    "IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP pHYs tEXt zTXt iTXt eXIf acTL fcTL fdAT abCd"
)
png_parts = st.tuples(st.sampled_from([kind.encode() for kind in PNG_KINDS.split()]), payloads)
jpeg_parts = st.tuples(
    st.sampled_from([0xC0, 0xC2, 0xC3, 0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xE0, 0xEE, 0xED, 0xFE]).map(
        lambda marker: bytes([0xFF, marker])
    ),
    st.sampled_from([b"", b"Adobe\0", b"Photoshop 3.0\x008BIM"]).flatmap(
        lambda head: payloads.map(lambda data: head + data)
    ),
) | st.one_of(
    exif_blocks.map(lambda block: (b"\xff\xe1", b"Exif\0\0" + block)),
    exif_blocks.map(lambda block: (b"\xff\xe2", b"MPF\0" + block)),
    payloads.map(lambda data: (b"\xff\xe2", b"ICC_PROFILE\0" + data)),
)


@st.composite
def rebuilt_images(draw: st.DrawFn) -> bytes:
    """Image files whose sums and lengths are right, though what they enclose is not."""
    names = [name for name in image_files() if name not in ("gif", "bmp")]
    content = image_files()[draw(st.sampled_from(names))]
    head = PNG_HEAD if content.startswith(PNG_HEAD) else content[:2]
    parts = take_apart(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(parts) - 1))
        kind, data = parts[at]
        match draw(st.sampled_from(["new", "new", "edit", "size", "repeat", "drop", "swap"])):
            case "new":
                parts.insert(
                    at + draw(st.integers(0, 1)),
                    draw(png_parts if head == PNG_HEAD else jpeg_parts),
                )
            case "edit":
                parts[at] = (kind, draw(edits)(data))
            case "size":  # forged
                width, height = draw(sizes), draw(sizes)
                parts = [
                    (k, struct.pack(">II", width, height) + d[8:])
                    if k == b"IHDR"
                    else (k, d[:1] + struct.pack(">HH", height % 65536, width % 65536) + d[5:])
                    if k in (b"\xff\xc0", b"\xff\xc2")
                    else (k, d)
                    for k, d in parts
                ]
            case "repeat":
                parts.insert(at, parts[at])
            case "drop" if len(parts) > 1:
                del parts[at]
            case "swap":
                other = draw(st.integers(0, len(parts) - 1))
                parts[at], parts[other] = parts[other], parts[at]
    return put_together([(k, d[:65_000]) for k, d in parts], head)


damaged_images = st.builds(
    lambda name, changes: apply_all(image_files()[name], changes),
    st.sampled_from(sorted(image_files())),
    st.lists(edits, max_size=4),
)
any_images = damaged_images | rebuilt_images()


@fuzz(
    given(any_images),
    # FOUND: an IndexError, an OSError and an AssertionError in place of an ImageError
    example(grey_png(24, 20, (b"iCCP", b""))),
    example(image_files()["jpeg"][:200]),
    example(grey_png(24, 20, before=(b"eXIf", b""))),
    # FOUND: an image of one column was scaled to 256 × 256,000,000
    example(grey_png(1, 1_000_000)),
    # kept: sizes that are only said
    example(grey_png(30_000, 30_000)),
    example(grey_png(60_000, 60_000)),
    example(grey_png(2**31 - 1, 2**31 - 1)),
    # kept: what Pillow warns of
    example(grey_png(12_000, 10_000)),
    example(grey_png(24, 20, before=(b"acTL", bytes(8)))),
    example(grey_png(24, 20, (b"eXIf", exif_block("<", [(0x0112, 3, 9, 2**20)], 8)))),
    example(grey_jpeg(b"\xff\xe1", b"Exif\0\0II*\0\x08\0\0\0\x09\0")),
    example(grey_jpeg(b"\xff\xe2", b"MPF\0" + exif_block("<", [(0xB001, 4, 1, 2)], 8))),
)
def test_any_bytes_are_an_image_or_an_image_error(content):
    read, _ = read_bytes(content)
    if isinstance(read, np.ndarray):
        assert read.dtype == np.uint8
        assert read.shape == (256, 256)
