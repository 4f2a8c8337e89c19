import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from cxr_keras.data.images import find_image_files, read_image, read_radiograph
from cxr_keras.errors import ImageError
from cxr_keras.framing import Framing

WEDGE = np.add.outer(np.linspace(0, 120, 60), np.linspace(0, 120, 60))

GRADIENT = np.tile(np.linspace(0, 255, 320).astype("uint8"), (300, 1))


def reference(pixels, side=256):
    """A slow, plain reading: shorter side to `side`, centre kept."""
    image = Image.fromarray(pixels)
    width, height = image.size
    scale = side / min(width, height)
    image = image.resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    top, left = (array.shape[0] - side) // 2, (array.shape[1] - side) // 2
    return array[top : top + side, left : left + side]


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_every_8_bit_png_mode_reads_as_the_same_grey(tmp_path, mode):
    path = tmp_path / "image.png"
    Image.fromarray(GRADIENT).convert(mode).save(path)
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.shape == (256, 256)
    np.testing.assert_allclose(image.astype(int), reference(GRADIENT).astype(int), atol=1)


def test_one_bit_png_is_black_and_white(tmp_path):
    path = tmp_path / "image.png"
    bits = np.zeros((256, 256), "uint8")
    bits[:, 128:] = 255
    Image.fromarray(bits).convert("1").save(path)
    np.testing.assert_array_equal(read_image(path), bits)


@pytest.mark.parametrize(
    ("bits", "white"), [(8, 255), (10, 1023), (12, 4095), (14, 16383), (16, 65535)]
)
def test_deep_png_is_scaled_from_the_depth_that_holds_it(tmp_path, bits, white):
    path = tmp_path / "deep.png"
    values = np.tile(np.linspace(0, white, 256).round().astype("uint16"), (256, 1))
    Image.fromarray(values).save(path)
    with Image.open(path) as image:
        assert image.mode.startswith("I")
    image = read_image(path).astype(int)
    np.testing.assert_allclose(image, values.astype(float) * 255 / white, atol=0.51)


def test_transparency_lies_over_black(tmp_path):
    path = tmp_path / "image.png"
    rgba = np.full((256, 256, 4), 200, "uint8")
    rgba[:, :, 3] = 0
    rgba[:128, :, 3] = 255
    Image.fromarray(rgba, "RGBA").save(path)
    image = read_image(path)
    assert (image[:128] == 200).all()
    assert (image[128:] == 0).all()


def test_jpeg_orientation_is_applied(tmp_path):
    upright = np.zeros((256, 256), "uint8")
    upright[:128] = 220
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90° anticlockwise: turn it clockwise to see it upright
    path = tmp_path / "image.jpg"
    Image.fromarray(np.rot90(upright).copy()).save(path, exif=exif, quality=95)
    np.testing.assert_allclose(read_image(path).astype(int), upright.astype(int), atol=12)


def test_cmyk_jpeg_reads(tmp_path):
    path = tmp_path / "image.jpg"
    Image.fromarray(GRADIENT).convert("RGB").convert("CMYK").save(path, quality=95)
    image = read_image(path).astype(int)
    assert abs(image - reference(GRADIENT)).mean() < 4


def assert_plain_reading(path):
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_image(path), reference(np.asarray(image.convert("L"))))


def test_a_large_image_is_read_as_by_plain_pillow(phantoms):
    path = sorted((phantoms / "images").iterdir())[0]
    with Image.open(path) as image:
        assert min(image.size) >= 1024
    assert_plain_reading(path)


def test_an_image_without_contrast_is_read(tmp_path):
    Image.new("L", (700, 600), 77).save(tmp_path / "flat.png")
    np.testing.assert_array_equal(read_image(tmp_path / "flat.png"), np.full((256, 256), 77))


def test_real_images_are_read_as_by_plain_pillow(sample):
    for path in sorted((sample / "images").iterdir())[:5]:
        assert_plain_reading(path)


@pytest.mark.parametrize("text_after", [b"", b"An image\x00of the chest"])
def test_pixels_in_many_png_chunks_read_as_in_one(tmp_path, text_after):
    pixels = np.random.default_rng(3).integers(0, 256, (256, 256), "uint8")
    raw = b"".join(b"\x00" + row.tobytes() for row in pixels)
    data = zlib.compress(raw)
    pieces = [data[start : start + 1000] for start in range(0, len(data), 1000)]
    assert len(pieces) > 50
    header = struct.pack(">IIBBBBB", 256, 256, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"gAMA", struct.pack(">I", 45455))]
    chunks += [(b"IDAT", piece) for piece in pieces]
    chunks += [(b"tEXt", text_after)] * bool(text_after) + [(b"IEND", b"")]
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks))
    np.testing.assert_array_equal(read_image(path), pixels)


def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def test_real_images_that_are_rgba_read_as_grey(sample):
    found = 0
    for path in sorted((sample / "images").iterdir()):
        with Image.open(path) as image:
            if image.mode != "RGBA":
                continue
        found += 1
        assert_plain_reading(path)
    assert found


def png_bytes(pixels=GRADIENT):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"not an image at all", "not a PNG, JPEG or DICOM"),
        (png_bytes()[:-60], "cannot be decoded"),
        (b"\0" * 128 + b"DICM" + b"\0" * 40, "DICOM"),
    ],
)
def test_a_bad_file_is_named_with_its_reason(tmp_path, content, says):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=says) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_image_errors(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(tmp_path)


def test_the_content_counts_not_the_name(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(png_bytes())
    assert read_image(path).shape == (256, 256)


def test_an_animation_is_refused(tmp_path):
    path = tmp_path / "image.png"
    frames = [Image.fromarray(GRADIENT), Image.fromarray(GRADIENT[::-1].copy())]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="animation of 2 frames"):
        read_image(path)


@pytest.mark.parametrize("width", [9_000, 10_000, 20_000])  # Pillow itself: silent, warns, refuses
@pytest.mark.parametrize("action", ["ignore", "error"])
def test_more_than_80_megapixels_are_refused_without_decoding(tmp_path, width, action):
    path = tmp_path / "huge.png"
    Image.new("1", (width, 9_500)).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(ImageError, match=r"huge\.png: .*more than 80 megapixels; scale it"):
            read_image(path)


def test_find_image_files_is_recursive_sorted_and_skips_hidden(tmp_path):
    for name in ("b.PNG", "a/z.jpg", "a/.hidden.png", ".git/x.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert [str(p.relative_to(tmp_path)) for p in find_image_files(tmp_path)] == [
        "a/z.jpg",
        "b.PNG",
    ]


def test_the_whole_image_keeps_the_corners_that_a_crop_loses(tmp_path):
    """A mark in each corner of an image that is wider than high."""
    pixels = np.full((300, 500), 40, "uint8")
    for rows in (slice(0, 50), slice(250, 300)):
        for columns in (slice(0, 50), slice(450, 500)):
            pixels[rows, columns] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    whole = read_image(tmp_path / "wide.png", Framing(100, "whole"))
    assert whole.shape == (100, 100)
    assert not whole[:20].any()  # black above and below
    assert not whole[80:].any()
    inside = whole[20:80]
    assert (inside[[1, 1, -2, -2], [1, -2, 1, -2]] == 255).all()
    assert inside[30, 50] == 40
    assert read_image(tmp_path / "wide.png", Framing(100)).max() == 40


@pytest.mark.parametrize("shape", [(64, 41), (41, 64), (64, 64)])
def test_a_whole_image_of_its_size_is_not_scaled(tmp_path, shape):
    pixels = np.random.default_rng(1).integers(1, 256, shape, dtype="uint8")
    Image.fromarray(pixels).save(tmp_path / "image.png")
    whole = read_image(tmp_path / "image.png", Framing(64, "whole"))
    rows, columns = (np.flatnonzero(whole.any(axis=axis)) for axis in (1, 0))
    np.testing.assert_array_equal(whole[np.ix_(rows, columns)], pixels)
    for found, length in ((rows, shape[0]), (columns, shape[1])):
        assert len(found) == length
        assert abs(found[0] - (63 - found[-1])) <= 1  # in the middle


@pytest.mark.parametrize("size", [64, 160, 512])
def test_a_crop_of_another_size_is_the_reference(tmp_path, size):
    Image.fromarray(GRADIENT).save(tmp_path / "image.png")
    side = Framing(size).stored
    expected = reference(GRADIENT, side)
    image = read_image(tmp_path / "image.png", Framing(size))
    assert image.shape == (side, side)
    np.testing.assert_allclose(image.astype(int), expected.astype(int), atol=1)


def test_a_thread_is_whole_too(tmp_path):
    Image.new("L", (3000, 2), 200).save(tmp_path / "thread.png")
    assert (read_image(tmp_path / "thread.png", Framing(64, "whole")) > 0).sum() == 64


@pytest.mark.parametrize(
    ("pixels", "doubts"),
    [
        (WEDGE, ()),
        (np.stack([WEDGE] * 3, axis=2), ()),  # grey in colours
        (np.stack([WEDGE, WEDGE * 0.95, WEDGE * 0.9], axis=2), ()),  # a tinted scan
        (
            np.stack([WEDGE, WEDGE[::-1], WEDGE], axis=2),
            ("a colour image, and a radiograph is grey",),
        ),
        (np.full((60, 60), 90), ("nearly one grey value",)),
        (np.concatenate([WEDGE] * 3), ("more than twice as long as wide",)),
    ],
    ids=["grey", "grey in colours", "tinted", "colours", "flat", "long"],
)
def test_what_may_be_no_radiograph_is_said(pixels, doubts, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(pixels.astype("uint8")).save(path)
    assert read_radiograph(path).warnings == doubts


def test_find_image_files_follows_links_to_folders_once(tmp_path):
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "films").mkdir()
    for name in ("elsewhere/deep/b.png", "films/a.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "films/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/deep/round").symlink_to(tmp_path / "films")
    found = [path.relative_to(tmp_path).as_posix() for path in find_image_files(tmp_path / "films")]
    assert found == ["films/a.png", "films/more/deep/b.png"]
