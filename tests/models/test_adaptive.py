"""Adaptive average pooling is PyTorch's, whatever the sizes."""

import keras
import numpy as np
import pytest
import torch

from cxr_keras.models.adaptive import average_to


@pytest.mark.parametrize(("height", "width", "side"), [(1, 1, 6), (2, 4, 6), (9, 13, 6), (5, 7, 7)])
def test_it_is_torchs(height, width, side):
    x = np.random.default_rng(height).normal(size=(2, height, width, 3)).astype("float32")
    inputs = keras.Input(x.shape[1:])
    ours = keras.Model(inputs, average_to(inputs, side))(x)
    theirs = torch.nn.AdaptiveAvgPool2d(side)(torch.from_numpy(x).permute(0, 3, 1, 2))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(ours), theirs.permute(0, 2, 3, 1).numpy(), atol=1e-6
    )


def test_a_map_of_that_size_gets_no_layer():
    inputs = keras.Input((6, 6, 3))
    assert average_to(inputs, 6) is inputs
