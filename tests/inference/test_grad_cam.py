"""Heat maps show where the network looked."""

import numpy as np
import pytest


def test_grad_cam_finds_the_only_bright_spot():
    """A network that answers to brightness is explained by the place that is bright."""
    import keras

    from cxr_keras.inference.grad_cam import grad_cam
    from cxr_keras.models import blocks

    pixels, x = blocks.input_stem()
    x = keras.layers.Conv2D(1, 8, strides=8, kernel_initializer="ones", name="conv1")(x)
    x = keras.layers.ReLU(name="conv1_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(pixels, blocks.sigmoid_head(x, 15))
    logits = model.get_layer("logits")
    logits.set_weights([np.ones_like(logits.get_weights()[0]), logits.get_weights()[1]])
    image = np.zeros((256, 256), "uint8")
    image[150:180, 60:90] = 255
    heat = grad_cam(model, image, [0])[0]
    assert heat.shape == (256, 256)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 145 <= row <= 185
    assert 55 <= column <= 95
    assert heat.max() == pytest.approx(1.0, abs=0.01)
    assert heat[16:120].max() < 0.05
