"""Each of torch's kernels against the Keras layer that it stands for: outputs and gradients."""

import keras
import numpy as np
import pytest
import torch
from keras import layers

from cxr_keras.models.torch_kernels import native_kernels
from cxr_keras.models.torch_layers import Depthwise

TIGHT, LOOSE = {"rtol": 1e-4, "atol": 1e-5}, {"rtol": 0.05, "atol": 0.05}
DTYPES = [("float32", TIGHT), ("mixed_bfloat16", LOOSE)]


def numbers(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


def results(model, x, *, native, training=True):
    """Outputs, and gradients of their weighted sum by the input and by every weight."""
    x = torch.from_numpy(x).to(keras.ops.convert_to_tensor(0.0).device).requires_grad_()
    with native_kernels(model) if native else keras.name_scope("plain"):
        replaced = any("call" in vars(layer) for layer in model.layers)
        assert replaced == native, "the kernel is not used"
        outputs = model(x, training=training)
        weights = torch.from_numpy(np.random.default_rng(9).normal(size=outputs.shape)).to(x)
        trained = [variable.value for variable in model.trainable_weights]
        gradients = torch.autograd.grad((outputs.float() * weights).sum(), [x, *trained])
    scale = [max(1.0, float(gradient.abs().max())) for gradient in gradients]
    states = [numbers(variable.value) for variable in model.non_trainable_weights]
    return [
        numbers(outputs),
        *(numbers(g) / s for g, s in zip(gradients, scale, strict=True)),
        *states,
    ]


def assert_alike(layer_of, shape, dtype, tolerance, training=True):
    keras.utils.set_random_seed(1)
    layer = layer_of(dtype=dtype)
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, layer(inputs))
    first = [numbers(w.value) for w in model.weights]
    x = np.random.default_rng(0).normal(0.5, 1.0, shape).astype("float32")
    theirs = results(model, x, native=False, training=training)
    model.set_weights(first)
    ours = results(model, x, native=True, training=training)
    assert len(ours) == len(theirs) > 2
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("size", "stride"), [(1, 1), (2, 1), (3, 1), (3, 2), (4, 2), (5, 1), (5, 2), (7, 1), (7, 3)]
)
def test_depthwise_convolution(size, stride, padding, dtype, tolerance):
    def layer_of(**options):
        return layers.DepthwiseConv2D(
            size, stride, padding, bias_initializer="random_normal", **options
        )

    for height, width in [(12, 13), (9, 8)]:
        assert_alike(layer_of, (2, height, width, 6), dtype, tolerance)


@pytest.mark.parametrize(("size", "stride"), [((3, 3), 1), ((5, 5), 2), ((7, 3), 1), ((4, 7), 3)])
def test_depthwise_gradients_are_torchs(size, stride):
    """In float64, where they are exact; the layers use it in bfloat16, which is coarse."""
    random = torch.Generator().manual_seed(0)
    shapes = [(2, 3, 18, 17), (3, 1, *size), (3,)]
    inputs = [
        torch.randn(shape, dtype=torch.float64, generator=random, requires_grad=True)
        for shape in shapes
    ]
    for pad in [(0, 0), (size[0] // 2, size[1] // 2)]:
        expected = torch.nn.functional.conv2d(*inputs, stride, pad, groups=3)
        found = Depthwise.apply(*inputs, (stride, stride), pad)
        torch.testing.assert_close(found, expected)
        weights = torch.randn(found.shape, dtype=torch.float64, generator=random)
        theirs = torch.autograd.grad(expected, inputs, weights)
        torch.testing.assert_close(torch.autograd.grad(found, inputs, weights), theirs)


def test_a_depthwise_kernel_that_is_not_square():
    for kernel in [(3, 5), (7, 3), (3, 1)]:
        for padding in ("same", "valid"):

            def layer_of(kernel=kernel, padding=padding, **options):
                return layers.DepthwiseConv2D(kernel, 1, padding, use_bias=False, **options)

            assert_alike(layer_of, (2, 9, 12, 4), "float32", TIGHT)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("size", "stride"), [(1, 1), (1, 2), (2, 1), (3, 1), (3, 2), (4, 3), (7, 2)]
)
def test_convolution(size, stride, padding, dtype, tolerance):
    def layer_of(**options):
        return layers.Conv2D(5, size, stride, padding, bias_initializer="random_normal", **options)

    for height, width in [(12, 13), (9, 8)]:
        assert_alike(layer_of, (2, height, width, 3), dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("training", [True, False])
def test_batch_normalisation(training, dtype, tolerance):
    def layer_of(**options):
        start = keras.initializers.RandomUniform(0.5, 1.5, seed=1)
        return layers.BatchNormalization(
            momentum=0.9, gamma_initializer=start, moving_variance_initializer=start, **options
        )

    assert_alike(layer_of, (4, 7, 6, 5), dtype, tolerance, training)


def test_running_statistics_are_float32s_in_bfloat16():
    """Sums are not rounded to 8 bits: the mean keeps its decimals."""
    inputs = keras.Input((32, 32, 2))
    layer = layers.BatchNormalization(momentum=0.0, dtype="mixed_bfloat16")
    model = keras.Model(inputs, layer(inputs))
    x = np.random.default_rng(0).normal(3.0, 1.0, (16, 32, 32, 2)).astype("float32")
    halves = numbers(keras.ops.cast(x, "bfloat16"))
    with native_kernels(model):
        model(x, training=True)
    mean, variance = numbers(layer.moving_mean.value), numbers(layer.moving_variance.value)
    np.testing.assert_allclose(mean, halves.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(variance, halves.var((0, 1, 2)), rtol=1e-3)


def test_dilated_grouped_and_multiplied_layers_are_left_to_keras():
    inputs = keras.Input((8, 8, 4))
    left = [
        layers.Conv2D(4, 3, dilation_rate=2),
        layers.Conv2D(4, 3, groups=2),
        layers.Conv2D(4, 3, activation="relu"),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.DepthwiseConv2D(3, dilation_rate=2),
        layers.DepthwiseConv2D(3, activation="relu"),
    ]
    model = keras.Model(inputs, [layer(inputs) for layer in left])
    with native_kernels(model):
        assert all("call" not in vars(layer) for layer in model.layers)
