"""Heat maps show where the network looked."""

import numpy as np
import pytest

from cxr_keras.framing import Framing


@pytest.mark.parametrize("framing", [Framing(), Framing(128), Framing(160, "whole")], ids=str)
def test_grad_cam_finds_the_only_bright_spot(framing):
    """A network that answers to brightness is explained by the place that is bright."""
    import keras

    from cxr_keras.inference.grad_cam import grad_cam
    from cxr_keras.models import blocks

    pixels, x = blocks.input_stem(framing)
    x = keras.layers.Conv2D(1, 8, strides=8, kernel_initializer="ones", name="conv1")(x)
    x = keras.layers.ReLU(name="conv1_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(pixels, blocks.sigmoid_head(x, 15))
    logits = model.get_layer("logits")
    logits.set_weights([np.ones_like(logits.get_weights()[0]), logits.get_weights()[1]])
    side = framing.stored
    image = np.zeros((side, side), "uint8")
    scale = side / 256
    bright = [round(edge * scale) for edge in (150, 180, 60, 90)]
    image[bright[0] : bright[1], bright[2] : bright[3]] = 255
    heat = grad_cam(model, image, [0])[0]
    assert heat.shape == (side, side)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 145 * scale <= row <= 185 * scale
    assert 55 * scale <= column <= 95 * scale
    assert heat.max() == pytest.approx(1.0, abs=0.05)
    before, after = framing.margins
    assert heat[before : round(120 * scale)].max() < 0.05
    rim = np.ones_like(heat, dtype=bool)
    rim[before : side - after, before : side - after] = False
    assert not heat[rim].any()
