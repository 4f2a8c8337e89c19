"""How large the square is that a network sees, and how much of the image is in it."""

import numpy as np
import pytest
from helpers.refusals import refusal
from PIL import Image

from cxr_keras.framing import FITS, Framing


@pytest.mark.parametrize(
    ("size", "fit", "stored", "margins"),
    [
        (224, "crop", 256, (16, 16)),  # torchvision's Resize(256), CenterCrop(224)
        (128, "crop", 146, (9, 9)),
        (160, "crop", 183, (11, 12)),
        (512, "crop", 585, (36, 37)),
        (224, "whole", 224, (0, 0)),
        (np.int64(99), "whole", 99, (0, 0)),
    ],
)
def test_what_is_stored_and_what_is_left_out(size, fit, stored, margins):
    framing = Framing(size, fit)
    assert (framing.stored, framing.margins) == (stored, margins)
    assert framing.size == size == stored - sum(margins)


def test_no_two_sizes_are_stored_alike():
    """So that a side says its size, and a pixel store holds one."""
    for fit in FITS:
        sides = [Framing(size, fit).stored for size in range(64, 1025)]
        assert len(set(sides)) == len(sides)


def test_what_says_no_size_was_written_before_there_was_a_choice():
    assert Framing.of({"root": "nih"}) == Framing() == Framing(224, "crop")
    assert Framing.of({"size": 96, "fit": "whole"}) == Framing(96, "whole")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((63,), "size must be 64 or more. Received: 63."),
        ((1025,), "size must be 1024 or less. Received: 1025."),
        ((0,), "size must be 64 or more. Received: 0."),
        ((224.0,), "size must be a whole number. Received: 224.0."),
        (("224",), "size must be a whole number. Received: '224'."),
        ((224, "stretch"), "There is no fit 'stretch'. Choose one of: crop, whole."),
    ],
)
def test_what_is_no_framing_is_a_sentence(options, says):
    assert refusal(Framing, *options) == says


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(300, 300), (500, 300), (300, 701), (1024, 1024), (90, 100)])
def test_a_box_lies_where_its_pixels_lie(fit, size, tmp_path):
    """Drawn into the image, read as networks read it, found again to the pixel."""
    from cxr_keras.data.images import read_image

    width, height = size
    framing = Framing(128, fit)
    box = (width * 0.42, height * 0.3, width * 0.25, height * 0.36)
    x, y, wide, high = map(round, box)
    pixels = np.zeros((height, width), "uint8")
    pixels[y : y + high, x : x + wide] = 255
    Image.fromarray(pixels).save(tmp_path / "film.png")
    bright = read_image(tmp_path / "film.png", framing) > 127
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    np.testing.assert_allclose(framing.in_square((x, y, wide, high), width, height), seen, atol=1)


@pytest.mark.parametrize("fit", FITS)
def test_the_whole_image_is_the_square_or_more(fit):
    framing = Framing(128, fit)
    left, top, right, bottom = framing.in_square((0, 0, 200, 100), 200, 100)
    side = framing.stored
    if fit == "crop":
        assert (left, top, right, bottom) == (0, 0, side, side)
        assert framing.in_square((0, 0, 20, 100), 200, 100)[2] == 0  # cut off
    else:
        assert (left, right) == (0, side)
        assert bottom - top == side / 2
