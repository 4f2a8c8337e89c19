"""Densely connected networks: Huang, Liu, van der Maaten, Weinberger, "Densely Connected
Convolutional Networks", https://arxiv.org/abs/1608.06993.
"""

from __future__ import annotations

import keras
from keras import layers

from cxr_keras.models import blocks
from cxr_keras.models.registry import register_model
from cxr_keras.models.resnet import stem
from cxr_keras.models.weights import Pretrained

_GROWTH = 32  # channels that each dense layer adds
_BOTTLENECK = 4  # times the growth: channels between a layer's 1×1 and 3×3 convolution
_DENSENET121 = (6, 12, 24, 16)  # dense layers in each block
_CUSTOM = (3, 3)


def _torch_names() -> dict[str, str]:
    """Keras layer → torchvision's name of it, for DenseNet121."""
    names = {"conv1": "features.conv0", "conv1_bn": "features.norm0"}
    for block, depth in enumerate(_DENSENET121, start=1):
        for layer in range(1, depth + 1):
            theirs = f"features.denseblock{block}.denselayer{layer}"
            for conv in (1, 2):
                ours = f"block{block}_layer{layer}_conv{conv}"
                names[ours] = f"{theirs}.conv{conv}"
                names[f"{ours}_bn"] = f"{theirs}.norm{conv}"
        if block < len(_DENSENET121):
            names[f"block{block}_transition"] = f"features.transition{block}.conv"
            names[f"block{block}_transition_bn"] = f"features.transition{block}.norm"
    return names | {"block4_bn": "features.norm5"}


@register_model(
    source="torchvision's DenseNet121",
    blocks=("conv1", "block1", "block2", "block3", "block4"),
    pretrained=Pretrained(
        file="densenet121-a639ec97.pth", layers=_torch_names(), head="classifier"
    ),
)
def densenet121(x: keras.KerasTensor) -> keras.KerasTensor:
    """DenseNet121 as torchvision has it: a stem and four dense blocks of bottleneck layers.

    Args:
        x: (N, 224, 224, 3) normalised radiographs.

    Returns:
        (N, 1024) features, averaged over the 7×7 places.
    """
    return _dense_blocks(stem(x, 64), _DENSENET121, bottleneck=True)


@register_model(
    source="the report's custom network: 9 weight layers in dense blocks",
    blocks=("conv1", "block1", "block2"),
)
def densenet_custom(x: keras.KerasTensor) -> keras.KerasTensor:
    """A small dense network of 9 weight layers, from random weights.

    Counted as DenseNet121's name counts, every convolution: the stem (1), a dense block of
    three (3), the 1×1 transition (1), a dense block of three (3), the dense head (1). Without
    bottlenecks each dense layer is one 3×3 convolution. Batch normalisation is not counted.

    Args:
        x: (N, 224, 224, 3) normalised radiographs.

    Returns:
        (N, 176) features, averaged over the 28×28 places.
    """
    return _dense_blocks(stem(x, 64), _CUSTOM, bottleneck=False)


def _dense_blocks(
    x: keras.KerasTensor, depths: tuple[int, ...], *, bottleneck: bool
) -> keras.KerasTensor:
    """Dense blocks, a transition after each but the last; then the average over all places."""
    for block, depth in enumerate(depths, start=1):
        for layer in range(1, depth + 1):
            name = f"block{block}_layer{layer}"
            new = _dense_layer(x, bottleneck=bottleneck, name=name)
            x = layers.Concatenate(name=f"{name}_concat")([x, new])
        if block < len(depths):
            x = _transition(x, name=f"block{block}_transition")
    x = blocks.batch_norm(x, name=f"block{len(depths)}_bn")
    x = layers.ReLU(name=f"block{len(depths)}_relu")(x)
    return layers.GlobalAveragePooling2D(name="average")(x)


def _dense_layer(x: keras.KerasTensor, *, bottleneck: bool, name: str) -> keras.KerasTensor:
    """The new channels: a 3×3 convolution, with a 1×1 bottleneck before it or without."""
    last = 1
    if bottleneck:
        x = _normalised_convolution(x, _BOTTLENECK * _GROWTH, 1, name=f"{name}_conv1")
        last = 2
    return _normalised_convolution(x, _GROWTH, 3, name=f"{name}_conv{last}")


def _transition(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Half the channels, half the size."""
    x = _normalised_convolution(x, x.shape[-1] // 2, 1, name=name)
    return layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def _normalised_convolution(
    x: keras.KerasTensor, filters: int, size: int, *, name: str
) -> keras.KerasTensor:
    """Batch normalisation, ReLU, convolution: the order of this family."""
    x = blocks.batch_norm(x, name=f"{name}_bn")
    x = layers.ReLU(name=f"{name}_relu")(x)
    return blocks.convolution(x, filters, size, pad=size // 2, use_bias=False, name=name)
