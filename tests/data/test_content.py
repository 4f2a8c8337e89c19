"""An image in memory is read as its file is, and nothing of it goes to a disk."""

import numpy as np
import pytest
from helpers.dicom_files import encode_by_gdcm, film, written
from helpers.refusals import refusal
from PIL import Image

from cxr_keras.data.content import Content
from cxr_keras.data.images import image_size, read_image, read_radiograph, read_whole
from cxr_keras.framing import Framing

FRAMING = Framing(64, "whole")
RAMP = (np.arange(24 * 20).reshape(24, 20) * 8 + 37).astype("uint16")


def files(folder, phantoms):
    """One of each kind that is read in a way of its own."""
    phantom = next((phantoms / "images").iterdir())
    grey = Image.open(phantom)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    grey.crop((0, 0, 100, 160)).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.asarray(grey, "uint16") * 16).save(folder / "deep.png")
    written(film(RAMP), folder / "plain.dcm")
    encode_by_gdcm(folder / "plain.dcm", folder / "lossless.dcm", "JPEGLosslessProcess14_1")
    made = ("turned.jpg", "deep.png", "plain.dcm", "lossless.dcm")
    return [phantom, *(folder / name for name in made)]


def test_an_image_in_memory_is_read_as_its_file_is(phantoms, tmp_path, monkeypatch):
    for file in files(tmp_path, phantoms):
        content = Content("film", file.read_bytes())
        expected = read_radiograph(file, FRAMING)
        with monkeypatch.context() as patch:
            patch.setattr("tempfile.tempdir", "/nowhere")
            found = read_radiograph(content, FRAMING)
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        assert (found.header, found.warnings) == (expected.header, expected.warnings)
        assert image_size(content) == image_size(file)


def test_the_whole_image_is_what_the_square_is_made_of(phantoms, tmp_path):
    for file in files(tmp_path, phantoms):
        width, height = image_size(file)
        whole = read_whole(file, 4096)
        assert whole.shape == (height, width)
        assert whole.dtype == np.uint8
        np.testing.assert_array_equal(whole, read_whole(Content("film", file.read_bytes()), 4096))
        assert max(read_whole(file, 16).shape) == 16
        if width == height and width >= 64:  # scaled, it is the square
            square = read_image(file, Framing(width, "whole")) if width <= 1024 else whole
            np.testing.assert_array_equal(square, whole)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "film.png: not a PNG, JPEG or DICOM image (the file is empty)."),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "film.png: "),
        (bytes(128) + b"DICM" + bytes(9), "film.png: "),
    ],
)
def test_an_error_names_it_as_it_was_called(data, words):
    for read in (read_image, lambda content: read_whole(content, 100)):
        assert refusal(read, Content("film.png", data)).startswith(words)
