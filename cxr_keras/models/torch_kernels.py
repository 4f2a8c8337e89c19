"""Torch's own kernels for what Keras does in more steps and copies.

On the torch backend Keras composes batch normalisation of a dozen elementwise operations, each
with a tensor to keep for the gradient, and copies every convolution's and pooling's input from
channels-last to channels-first memory and back. Torch has one kernel for each, and runs them on
channels-last memory as it lies. The layers, their weights and their configuration stay Keras's:
only the instances' `call` is replaced, and put back.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 1 << 30


@contextmanager
def native_kernels(model: keras.Model, *, inference: bool = False) -> Iterator[None]:
    """Within the body, `model` runs on torch's kernels, training and not.

    Its numbers are Keras's up to float rounding, running statistics included. A layer that no
    kernel fits is left as it is; other backends are left alone.

    Args:
        model: the network.
        inference: nothing is trained in the body, nor on what comes out of it, so a convolution
            also does the work of the batch normalisation behind it, by its weights.
    """
    replaced = []
    if keras.backend.backend() == "torch":
        layers = list(_all_layers(model))
        calls = {layer: call for layer in layers if (call := _kernel_for(layer)) is not None}
        if inference:
            calls |= _folded(calls, model.outputs)
        for layer, call in calls.items():
            layer.call = partial(call, layer)
            replaced.append(layer)
    try:
        yield
    finally:
        for layer in replaced:
            del layer.call


def keep_memory() -> None:
    """Ask glibc to keep freed blocks of up to 1 GB for the next step of this process.

    Otherwise it returns large blocks to the system at once, and a training step spends a third
    of its time on faulting the same pages in again. Does nothing where there is no glibc.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


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
    if kind is keras.layers.MaxPooling2D and layer.padding == "valid":
        return _max_pooling
    if kind is keras.layers.BatchNormalization and _plain_batch_norm(layer):
        return _batch_norm
    return None


def _plain_convolution(layer: Any) -> bool:
    odd = all(size % 2 for size in layer.kernel_size)
    same = layer.padding == "same" and odd and set(layer.strides) == {1}
    plain = layer.groups == 1 and set(layer.dilation_rate) == {1} and not layer.lora_enabled
    linear = layer.activation is keras.activations.linear
    return plain and linear and (same or layer.padding == "valid")


def _plain_batch_norm(layer: Any) -> bool:
    return (
        layer.compute_dtype == "float32"  # Keras widens halves first; torch would not
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


def _folded(
    calls: dict[Any, Callable[..., Any]], outputs: list[Any]
) -> dict[Any, Callable[..., Any]]:
    """Calls of convolutions whose one follower is a batch normalisation, and of the followers."""
    result: dict[Any, Callable[..., Any]] = {}
    for layer, call in calls.items():
        followers = {node.operation for node in layer._outbound_nodes}
        shown = any(tensor._keras_history.operation is layer for tensor in outputs)
        plain = call is _convolution and layer.compute_dtype == "float32"
        if not plain or shown or len(followers) != 1:
            continue
        norm = followers.pop()
        if calls.get(norm) is _batch_norm and len(norm._inbound_nodes) == 1:
            scale = norm.gamma.value * (norm.moving_variance.value + norm.epsilon).rsqrt()
            shift = norm.beta.value - norm.moving_mean.value * scale
            bias = layer.bias.value * scale + shift if layer.use_bias else shift
            weights = (layer.kernel.value * scale).detach(), bias.detach()
            result[layer] = partial(_convolution, weights=weights)
            result[norm] = _nothing
    return result


def _nothing(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    return inputs


def _convolution(layer: Any, inputs: Any, weights: tuple[Any, Any] | None = None) -> Any:
    """`weights` replace the layer's own kernel and bias."""
    import torch

    own = layer.kernel, layer.bias if layer.use_bias else None
    kernel, bias = weights or own
    kernel = keras.ops.convert_to_tensor(kernel).permute(3, 2, 0, 1)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    bias = None if bias is None else keras.ops.convert_to_tensor(bias)
    pad = [size // 2 if layer.padding == "same" else 0 for size in layer.kernel_size]
    maps = torch.nn.functional.conv2d(_channels_first(inputs), kernel, bias, layer.strides, pad)
    return _channels_last(maps)


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
