"""16-bit PNGs of 10, 12 and 14 bits: sBIT decides, then the whole data set, then the image."""

import zlib

import numpy as np
import pytest
from PIL import Image

from cxr_keras.data.images import read_radiograph
from cxr_keras.data.png_depth import common_depth, deep_png
from cxr_keras.data.preparation import prepare

RAMP = np.tile(np.linspace(0, 900, 256).round().astype("uint16"), (256, 1))  # fits 10 bits


def chunk(kind, data):
    body = kind + data
    return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def deep(path, values, sbit=None):
    """A 16-bit PNG; `sbit` goes into an sBIT chunk behind the header."""
    Image.fromarray(values).save(path)
    if sbit is not None:
        content = path.read_bytes()
        path.write_bytes(content[:33] + chunk(b"sBIT", bytes([sbit])) + content[33:])
    return path


@pytest.mark.parametrize(
    ("sbit", "values", "white"),
    [
        (12, RAMP, 4095),
        (10, RAMP, 1023),
        (14, RAMP * 16, 16383),
        (12, RAMP * 72, 65535),  # scaled up to 16 bits, as the specification asks for
        (16, RAMP, 65535),
    ],
)
def test_the_sbit_chunk_decides(sbit, values, white, tmp_path):
    path = deep(tmp_path / "film.png", values, sbit)
    assert deep_png(path).significant == sbit
    for bits in (None, 16, 12):
        found = read_radiograph(path, bits=bits)
        np.testing.assert_allclose(found.pixels, values * (255.0 / white), atol=0.51)
        assert found.warnings[0] == f"a 16-bit PNG, read as {sbit} bits, by its sBIT chunk"


def test_the_data_set_decides_where_there_is_none(tmp_path):
    path = deep(tmp_path / "film.png", RAMP)
    found = read_radiograph(path, bits=12)
    np.testing.assert_allclose(found.pixels, RAMP * (255.0 / 4095), atol=0.51)
    assert found.warnings == ("a 16-bit PNG, read as 12 bits, by the data set's highest value",)
    brighter = deep(tmp_path / "brighter.png", RAMP * 5)  # more than the data set is said to hold
    assert "by its own highest value" in read_radiograph(brighter, bits=12).warnings[0]


def test_the_image_decides_where_it_is_alone(tmp_path):
    found = read_radiograph(deep(tmp_path / "film.png", RAMP))
    np.testing.assert_allclose(found.pixels, RAMP * (255.0 / 1023), atol=0.51)
    assert found.warnings == ("a 16-bit PNG, read as 10 bits, by its own highest value",)


@pytest.mark.parametrize(
    ("highest", "bits"), [(200, 8), (1000, 10), (1024, 12), (9000, 14), (16384, 16)]
)
def test_the_depth_of_a_data_set_is_that_of_its_highest_value(highest, bits, tmp_path):
    paths = []
    for number in range(6):
        values = (RAMP // 900 * (highest if number == 4 else 100)).astype("uint16")
        paths.append(str(deep(tmp_path / f"{number}.png", values)))
    assert common_depth(paths) == bits
    deep(tmp_path / "4.png", RAMP * 0 + 17)  # another image of that name: counted anew
    assert common_depth(paths) == 8


def test_images_of_8_bits_and_those_with_sbit_have_none(tmp_path):
    Image.fromarray(RAMP.astype("uint8")).save(tmp_path / "plain.png")
    paths = [tmp_path / "plain.png", deep(tmp_path / "said.png", RAMP, 12), tmp_path / "gone.png"]
    assert common_depth(list(map(str, paths))) is None
    assert deep_png(tmp_path / "plain.png") is None


def test_prepare_reads_every_image_of_a_data_set_in_one_depth(make_folder, capsys):
    rows = [(f"{n:08d}_000.png", "Nodule" if n % 2 else "No Finding", n) for n in range(20)]
    folder = make_folder(rows)
    images = sorted((folder / "images").iterdir())
    for number, path in enumerate(images):
        deep(path, RAMP * 4 if number == 7 else RAMP + number)
    prepared = prepare(folder, per_class="all", test_share=0)
    assert "20 of 20 images: a 16-bit PNG, read as 12 bits, by the data set's highest" in (
        capsys.readouterr().err
    )
    row = prepared.manifest.set_index("Image Index").loc[images[0].name]
    np.testing.assert_allclose(prepared.store.pixels[row["row"]], RAMP * (255.0 / 4095), atol=0.51)
