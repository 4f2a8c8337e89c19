"""A network that a user built: its input says how images are framed for it."""

import keras
import pytest
from helpers.refusals import refusal

from cxr_keras import build_model
from cxr_keras.framing import Framing
from cxr_keras.models.user_built import framing_of, with_logits


def built(*shape, name="mine"):
    pixels = keras.Input(shape)
    x = keras.layers.GlobalAveragePooling2D()(pixels)
    return keras.Model(pixels, keras.layers.Dense(15, activation="sigmoid")(x), name=name)


@pytest.mark.parametrize("framing", [Framing(), Framing(99), Framing(99, "whole")], ids=str)
def test_one_of_this_package_is_known_again(framing):
    network = build_model("resnet_custom", size=framing.size, fit=framing.fit)
    assert network.input_shape == (None, framing.stored, framing.stored, 1)
    assert framing_of(network) == framing
    assert framing_of(network, framing.size, framing.fit) == framing


def test_any_other_is_given_whole_images_unless_told():
    assert framing_of(built(160, 160, 1)) == Framing(160, "whole")
    assert framing_of(built(160, 160, 1), fit="crop") == Framing(140, "crop")
    assert framing_of(built(256, 256, 1)) == Framing(224, "crop")  # as ever
    assert framing_of(built(256, 256, 1), 256, "whole") == Framing(256, "whole")


@pytest.mark.parametrize(
    ("shape", "options", "says"),
    [
        (
            (64, 96, 1),
            {},
            r"must take (N, side, side, 1), grey squares of one size. Received: mine",
        ),
        ((96, 96, 3), {}, "Received: mine with (None, 96, 96, 3)."),
        ((None, None, 1), {}, "Received: mine with (None, None, None, 1)."),
        ((32, 32, 1), {}, "mine takes 32×32 pixels: size must be 64 or more. Received: 32."),
        ((96, 96, 1), {"fit": "zoom"}, "There is no fit 'zoom'."),
        (
            (96, 96, 1),
            {"size": 224},
            "mine takes 96×96 pixels, which is size 96 with fit='whole'. Received: size=224. Leave "
            "size out, or build the network for it.",
        ),
        (
            (148, 148, 1),
            {"fit": "crop"},
            "mine takes 148×148 pixels, which is no size of fit='crop'. Give fit='whole'",
        ),
    ],
)
def test_what_contradicts_it_is_a_sentence(shape, options, says):
    assert says in refusal(framing_of, built(*shape), **options)


def test_one_that_crops_cannot_see_the_whole():
    network = build_model("resnet_custom", size=98)
    assert network.input_shape == (None, 112, 112, 1)
    says = refusal(framing_of, network, fit="whole")
    assert "takes 112×112 pixels and crops them, which is no size of fit='whole'" in says


def test_the_number_of_outputs_is_a_sentence():
    says = refusal(with_logits, built(96, 96, 1), 14)
    assert says == "A network for training must give (N, 14). Received: mine with (None, 15)."
