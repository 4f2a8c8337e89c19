"""What torch's kernels compute in place of Keras's layers, on channels-last memory as it lies.

Each function takes a layer and its inputs; `torch_kernels` chooses which. In bfloat16 on CPUs
torch is three to twenty times slower than need be in two gradients of a depthwise convolution:
that of its input at stride 2, and that of a kernel wider than 3×3. `Depthwise` has them done by
convolutions that are fast; in float32 torch's own are as fast.
"""

from __future__ import annotations

from typing import Any

import keras
import torch
from torch.nn import functional


def convolution(layer: Any, inputs: Any) -> Any:
    """What a `Conv2D` without groups, dilation and activation computes: (N, H, W, C) both."""
    maps, pad = _padded(_channels_first(inputs), layer)
    kernel = keras.ops.convert_to_tensor(layer.kernel).permute(3, 2, 0, 1)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    bias = keras.ops.convert_to_tensor(layer.bias) if layer.use_bias else None
    return _channels_last(functional.conv2d(maps, kernel, bias, layer.strides, pad))


def depthwise_convolution(layer: Any, inputs: Any) -> Any:
    """What a `DepthwiseConv2D` of one filter a channel computes: (N, H, W, C) both."""
    maps, pad = _padded(_channels_first(inputs), layer)
    kernel = keras.ops.convert_to_tensor(layer.kernel).permute(2, 3, 0, 1).contiguous()
    bias = keras.ops.convert_to_tensor(layer.bias) if layer.use_bias else None
    slow = maps.device.type == "cpu" and maps.dtype == torch.bfloat16
    if slow and set(layer.kernel_size) <= {3, 5, 7}:
        maps = Depthwise.apply(maps, kernel, bias, layer.strides, pad)
    else:
        maps = functional.conv2d(maps, kernel, bias, layer.strides, pad, groups=len(kernel))
    return _channels_last(maps)


def max_pooling(layer: Any, inputs: Any) -> Any:
    """What a `MaxPooling2D` without padding computes."""
    maps = _channels_first(inputs)
    return _channels_last(functional.max_pool2d(maps, layer.pool_size, layer.strides))


def batch_norm(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """What a `BatchNormalization` of (N, H, W, C) computes, running statistics included."""
    maps = _channels_first(inputs)
    gamma, beta = layer.gamma.value, layer.beta.value
    mean, variance = layer.moving_mean.value, layer.moving_variance.value
    if not (training and layer.trainable):
        maps = functional.batch_norm(maps, mean, variance, gamma, beta, eps=layer.epsilon)
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


def synchronized_batch_norm(
    batch_sum: Any, layer: Any, inputs: Any, training: bool | None = None, mask: Any = None
) -> Any:
    """What a `BatchNormalization` computes of the images of all processes together.

    Args:
        batch_sum: sums a tensor over the processes, with its gradient.
        layer: normalises the last axis.
        inputs: (N, …, C), of this process.
        training: whether the batch's own statistics are used, and learnt from.
        mask: not used.
    """
    mean, variance = layer.moving_mean.value, layer.moving_variance.value
    if training and layer.trainable:
        values = inputs.reshape(-1, inputs.shape[-1]).float()
        count = values.new_full((1,), len(values))
        totals = batch_sum(torch.cat([values.sum(dim=0), count]))
        batch_mean = totals[:-1] / totals[-1]
        squares = batch_sum((values - batch_mean).square().sum(dim=0))
        batch_variance = squares / totals[-1]
        with torch.no_grad():
            mean.lerp_(batch_mean.to(mean.dtype), 1.0 - layer.momentum)
            variance.lerp_(batch_variance.to(variance.dtype), 1.0 - layer.momentum)
        mean, variance = batch_mean, batch_variance
    scale = torch.rsqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * layer.gamma.value
    shift = -mean * scale
    if layer.center:
        shift = shift + layer.beta.value
    return (inputs * scale + shift).to(inputs.dtype)


def _channels_first(maps: Any) -> Any:
    """A view: torch sees that its memory is channels-last."""
    return maps.permute(0, 3, 1, 2)


def _channels_last(maps: Any) -> Any:
    """The way back."""
    return maps.permute(0, 2, 3, 1)


def _padded(maps: Any, layer: Any) -> tuple[Any, tuple[int, int]]:
    """The input, padded where torch's convolution cannot; and the padding that is left to it.

    "same" pads one more zero at the end than at the beginning if their number is odd.
    """
    if layer.padding == "valid":
        return maps, (0, 0)
    zeros = [
        max((-(-size // stride) - 1) * stride + kernel - size, 0)
        for size, kernel, stride in zip(
            maps.shape[2:], layer.kernel_size, layer.strides, strict=True
        )
    ]
    height, width = (number // 2 for number in zeros)
    if not any(number % 2 for number in zeros):
        return maps, (height, width)
    sides = (width, zeros[1] - width, height, zeros[0] - height)
    return functional.pad(maps, sides), (0, 0)


class Depthwise(torch.autograd.Function):
    """A depthwise convolution, with the gradients of torch's own up to rounding.

    Its arguments: maps (N, C, H, W), a kernel (C, 1, 3 or more, 3 or more), a bias (C,) or None,
    strides, and the zeros on either side of height and width.

    The input's gradient is the convolution, at stride 1, of the output's gradient, with zeros
    put between its places, with the mirrored kernel. A wide kernel's gradient is put together
    of 3×3 gradients on shifted inputs.
    """

    @staticmethod
    def forward(
        ctx: Any, maps: Any, kernel: Any, bias: Any, strides: Any, pad: tuple[int, int]
    ) -> Any:
        """Torch's own convolution."""
        ctx.save_for_backward(maps, kernel)
        ctx.strides, ctx.pad = strides, pad
        return functional.conv2d(maps, kernel, bias, strides, pad, groups=len(kernel))

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> tuple[Any, ...]:
        """The gradients of maps, kernel and bias."""
        maps, kernel = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        by_maps = by_kernel = by_bias = None
        if ctx.needs_input_grad[0]:
            by_maps = _gradient_by_input(gradient, maps, kernel, ctx.strides, ctx.pad)
        if ctx.needs_input_grad[1]:
            by_kernel = _gradient_by_kernel(gradient, maps, kernel, ctx.strides, ctx.pad)
        if ctx.needs_input_grad[2]:
            by_bias = gradient.sum((0, 2, 3))
        return by_maps, by_kernel, by_bias, None, None


def _gradient_by_input(
    gradient: Any, maps: Any, kernel: Any, strides: tuple[int, int], pad: tuple[int, int]
) -> Any:
    size = kernel.shape[2:]
    if set(strides) != {1}:
        # where the kernel could stand, had it not strided
        places = [maps.shape[2 + i] + 2 * pad[i] - size[i] + 1 for i in (0, 1)]
        apart = torch.empty(
            (*gradient.shape[:2], *places),
            dtype=gradient.dtype,
            device=gradient.device,
            memory_format=torch.channels_last,
        ).zero_()
        apart[:, :, :: strides[0], :: strides[1]] = gradient
        gradient = apart
    around = [size[i] - 1 - pad[i] for i in (0, 1)]
    return functional.conv2d(gradient, kernel.flip(2, 3), None, 1, around, groups=len(kernel))


def _gradient_by_kernel(
    gradient: Any, maps: Any, kernel: Any, strides: tuple[int, int], pad: tuple[int, int]
) -> Any:
    def of_three(inputs: Any, pad: tuple[int, int]) -> Any:
        part = kernel[:, :, :3, :3]
        wanted, groups = [False, True, False], len(kernel)
        return torch.ops.aten.convolution_backward(
            gradient, inputs, part, None, strides, pad, [1, 1], False, [0, 0], groups, wanted
        )[1]

    rows, columns = (_thirds(size) for size in kernel.shape[2:])
    if len(rows) == len(columns) == 1:
        return of_three(maps, pad)
    maps = functional.pad(maps, (pad[1], pad[1], pad[0], pad[0]))
    by_kernel = torch.empty_like(kernel)
    for row in rows:
        for column in columns:
            below = row + maps.shape[2] - kernel.shape[2] + 3
            right = column + maps.shape[3] - kernel.shape[3] + 3
            shifted = maps[:, :, row:below, column:right]
            by_kernel[:, :, row : row + 3, column : column + 3] = of_three(shifted, (0, 0))
    return by_kernel


def _thirds(size: int) -> list[int]:
    """Where windows of three begin that together cover `size` places, the last at its end."""
    return [*range(0, size - 3, 3), size - 3]
