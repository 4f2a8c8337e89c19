"""How large the square is that a network sees, and how much of the image is in it."""

import numpy as np
import pytest
from helpers.refusals import refusal

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
