"""Torch's own kernels for what Keras does in more steps and copies.

On the torch backend Keras composes batch normalisation of a dozen elementwise operations, each
with a tensor to keep for the gradient, and copies every convolution's and pooling's input from
channels-last to channels-first memory and back. Torch has one kernel for each, and runs them on
channels-last memory as it lies. The layers, their weights and their configuration stay Keras's:
only the instances' `call` is replaced, and put back. They are used on CPUs and CUDA GPUs;
`CXR_KERAS_KERNELS=off` in the environment turns them off.

What breaks if Keras changes: a layer that computes something else under the same settings, or
that is no longer run through its `call` attribute. Then numbers differ from Keras's own, or the
speed is lost; the tests compare each kernel with the layer it stands for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras

from cxr_keras.errors import CxrError

SWITCH = "CXR_KERAS_KERNELS"


def kernels_enabled() -> bool:
    """Whether torch's kernels are used: on its CPU and CUDA devices, unless switched off.

    Raises:
        CxrError: the switch says neither "on" nor "off".
    """
    wanted = os.environ.get(SWITCH, "on")
    if wanted not in ("on", "off"):
        raise CxrError(f"${SWITCH} is on or off. Received: {wanted!r}.")
    if wanted == "off" or keras.backend.backend() != "torch":
        return False
    return keras.ops.convert_to_tensor(0).device.type in ("cpu", "cuda")


@contextmanager
def native_kernels(model: keras.Model) -> Iterator[None]:
    """Within the body, `model` runs on torch's kernels, training and not.

    Its numbers are Keras's up to float rounding, running statistics included. A layer that no
    kernel fits is left as it is; other backends are left alone.
    """
    replaced = []
    if kernels_enabled():
        for layer in _all_layers(model):
            call = None if "call" in vars(layer) else _kernel_for(layer)  # validation within fit
            if call is not None:
                layer.call = partial(call, layer)
                replaced.append(layer)
    try:
        yield
    finally:
        for layer in replaced:
            del layer.call


def _all_layers(model: keras.Model) -> Iterator[Any]:
    """The layers, those of networks within the network too."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)
        else:
            yield layer


def _kernel_for(layer: Any) -> Callable[..., Any] | None:
    """What computes `layer`, or None to leave it to Keras."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return None
    kind = type(layer)
    if kind is keras.layers.Conv2D and _plain_convolution(layer):
        return _convolution
    if kind is keras.layers.DepthwiseConv2D and _plain_depthwise(layer):
        return _depthwise
    if kind is keras.layers.ReLU and layer.max_value == 6 and not layer.negative_slope:
        return _relu6 if not layer.threshold else None
    if kind is keras.layers.MaxPooling2D and layer.padding == "valid":
        return _max_pooling
    if kind is keras.layers.BatchNormalization and _plain_batch_norm(layer):
        return _batch_norm
    return None


def _plain_convolution(layer: Any) -> bool:
    plain = layer.groups == 1 and set(layer.dilation_rate) == {1} and not layer.lora_enabled
    linear = layer.activation is keras.activations.linear
    return plain and linear and layer.padding in ("same", "valid")


def _plain_depthwise(layer: Any) -> bool:
    square = layer.kernel_size in ((3, 3), (5, 5)) and len(set(layer.strides)) == 1
    plain = set(layer.dilation_rate) == {1} and layer.depth_multiplier == 1 and not layer.use_bias
    linear = layer.activation is keras.activations.linear
    return square and plain and linear and layer.padding in ("same", "valid")


def _plain_batch_norm(layer: Any) -> bool:
    return (
        # Keras widens halves first; torch's kernel reads bfloat16 and counts in float32
        layer.compute_dtype in ("float32", "bfloat16")
        and layer.variable_dtype == "float32"
        and layer.axis in (-1, 3)
        and len(layer.input.shape) == 4
        and layer.scale
        and layer.center
        and not layer.synchronized
        and not getattr(layer, "renorm", False)
    )


def _channels_first(maps: Any) -> Any:
    """A view: torch sees that its memory is channels-last."""
    return maps.permute(0, 3, 1, 2)


def _channels_last(maps: Any) -> Any:
    return maps.permute(0, 2, 3, 1)


def _padding(layer: Any, maps: Any) -> tuple[list[int], list[int]]:
    """Zeros that "same" puts before and after each axis (height, width): the odd one after."""
    if layer.padding == "valid":
        return [0, 0], [0, 0]
    sides = zip(maps.shape[2:], layer.kernel_size, layer.strides, strict=True)
    lacking = [max((-(-side // step) - 1) * step + size - side, 0) for side, size, step in sides]
    return [number // 2 for number in lacking], [number - number // 2 for number in lacking]


def _convolution(layer: Any, inputs: Any) -> Any:
    import torch

    kernel = keras.ops.convert_to_tensor(layer.kernel).permute(3, 2, 0, 1)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    bias = keras.ops.convert_to_tensor(layer.bias) if layer.use_bias else None
    maps = _channels_first(inputs)
    before, after = _padding(layer, maps)
    if before != after:
        maps = _pad(maps, before, after)
        before = [0, 0]
    return _channels_last(torch.nn.functional.conv2d(maps, kernel, bias, layer.strides, before))


def _depthwise(layer: Any, inputs: Any) -> Any:
    import torch

    from cxr_keras.models.torch_depthwise import DepthwiseConvolution

    kernel = keras.ops.convert_to_tensor(layer.kernel).permute(2, 3, 0, 1).contiguous()
    maps = _channels_first(inputs)
    maps = _pad(maps, *_padding(layer, maps))
    stride = layer.strides[0]
    if maps.device.type != "cpu":
        maps = torch.nn.functional.conv2d(maps, kernel, None, stride, 0, 1, len(kernel))
    else:
        maps = DepthwiseConvolution.apply(maps, kernel, stride)
    return _channels_last(maps)


def _pad(maps: Any, before: list[int], after: list[int]) -> Any:
    import torch

    if not any(before + after):
        return maps
    (top, left), (bottom, right) = before, after
    return torch.nn.functional.pad(maps, (left, right, top, bottom))


def _relu6(layer: Any, inputs: Any) -> Any:
    import torch

    return torch.nn.functional.relu6(inputs)


def _max_pooling(layer: Any, inputs: Any) -> Any:
    import torch

    maps = _channels_first(inputs)
    return _channels_last(torch.nn.functional.max_pool2d(maps, layer.pool_size, layer.strides))


def _batch_norm(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    import torch

    maps = _channels_first(inputs)
    gamma, beta = layer.gamma.value, layer.beta.value
    mean, variance = layer.moving_mean.value, layer.moving_variance.value
    if not (training and layer.trainable):
        maps = torch.nn.functional.batch_norm(maps, mean, variance, gamma, beta, eps=layer.epsilon)
        return _channels_last(maps)
    maps, batch_mean, inverse = torch.native_batch_norm(
        maps, gamma, beta, None, None, True, 0.0, layer.epsilon
    )
    if maps.device.type != "meta":
        with torch.no_grad():
            # Keras averages the batch's own variance, torch's layer would the unbiased one
            batch_variance = inverse.double().pow(-2).sub(layer.epsilon).to(variance.dtype)
            mean.lerp_(batch_mean.to(mean.dtype), 1.0 - layer.momentum)
            variance.lerp_(batch_variance, 1.0 - layer.momentum)
    return _channels_last(maps)
