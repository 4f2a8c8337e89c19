"""Residual networks: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition",
https://arxiv.org/abs/1512.03385.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

from cxr_keras.models import blocks
from cxr_keras.models.registry import register_model
from cxr_keras.models.weights import Pretrained

_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # filters, stride of the first block
_DEPTHS18, _DEPTHS50 = (2, 2, 2, 2), (3, 4, 6, 3)  # residual blocks in each stage
_BLOCKS = ("conv1", "layer1", "layer2", "layer3", "layer4")
_WIDENING = 4  # of a bottleneck's last convolution


def _torch_names(depths: tuple[int, ...], *, bottleneck: bool) -> dict[str, str]:
    """Keras layer → torchvision's name of it."""
    names = {"conv1": "conv1", "conv1_bn": "bn1"}
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            for conv in (1, 2, 3) if bottleneck else (1, 2):
                ours = f"layer{stage}_{block}_conv{conv}"
                names[ours] = f"layer{stage}.{block}.conv{conv}"
                names[f"{ours}_bn"] = f"layer{stage}.{block}.bn{conv}"
        if stage > 1 or bottleneck:  # else the first stage keeps size and filters
            names[f"layer{stage}_0_skip"] = f"layer{stage}.0.downsample.0"
            names[f"layer{stage}_0_skip_bn"] = f"layer{stage}.0.downsample.1"
    return names


@register_model(
    source="torchvision's ResNet18",
    blocks=_BLOCKS,
    pretrained=Pretrained(
        file="resnet18-f37072fd.pth", layers=_torch_names(_DEPTHS18, bottleneck=False), head="fc"
    ),
)
def resnet18(x: keras.KerasTensor) -> keras.KerasTensor:
    """ResNet18 as torchvision has it: a stem and four stages of two residual blocks.

    Args:
        x: (N, 224, 224, 3) normalised radiographs.

    Returns:
        (N, 512) features, averaged over the 7×7 places.
    """
    return _stages(x, _DEPTHS18, residual_block)


@register_model(
    source="torchvision's ResNet50",
    blocks=_BLOCKS,
    pretrained=Pretrained(
        file="resnet50-0676ba61.pth", layers=_torch_names(_DEPTHS50, bottleneck=True), head="fc"
    ),
    recipe="modern",
)
def resnet50(x: keras.KerasTensor) -> keras.KerasTensor:
    """ResNet50 as torchvision has it: a stem and four stages of 3, 4, 6 and 3 bottlenecks.

    Args:
        x: (N, 224, 224, 3) normalised radiographs.

    Returns:
        (N, 2048) features, averaged over the 7×7 places.
    """
    return _stages(x, _DEPTHS50, bottleneck_block)


@register_model(
    source="the report's custom network: 6 weight layers with skip connections",
    blocks=("conv1", "layer1", "layer2"),
)
def resnet_custom(x: keras.KerasTensor) -> keras.KerasTensor:
    """A small residual network of 6 weight layers, from random weights.

    Counted as ResNet18's name counts: the stem's convolution (1), two residual blocks of two
    convolutions (4), the dense head (1). The 1×1 convolutions that fit a skip to its block's
    output, and batch normalisation, are not counted.

    Args:
        x: (N, 224, 224, 3) normalised radiographs.

    Returns:
        (N, 256) features, averaged over the 14×14 places.
    """
    x = stem(x, 64)
    x = residual_block(x, 128, stride=2, name="layer1")
    x = residual_block(x, 256, stride=2, name="layer2")
    return layers.GlobalAveragePooling2D(name="average")(x)


def _stages(
    x: keras.KerasTensor, depths: tuple[int, ...], block_of: Callable[..., keras.KerasTensor]
) -> keras.KerasTensor:
    """Stem, stages, and the average over all places."""
    x = stem(x, 64)
    for stage, ((filters, stride), depth) in enumerate(zip(_STAGES, depths, strict=True), start=1):
        for block in range(depth):
            name = f"layer{stage}_{block}"
            x = block_of(x, filters, stride=stride if block == 0 else 1, name=name)
    return layers.GlobalAveragePooling2D(name="average")(x)


def stem(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    """The way in of ResNet and DenseNet: (N, 224, 224, 3) → (N, 56, 56, filters).

    PyTorch's max pooling pads with -∞. After a ReLU nothing is below 0, so zeros do the same.
    """
    x = blocks.convolution(x, filters, 7, stride=2, pad=3, use_bias=False, name="conv1")
    x = blocks.batch_norm(x, name="conv1_bn")
    x = layers.ReLU(name="conv1_relu")(x)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    return layers.MaxPooling2D(3, 2, name="pool1")(x)


def residual_block(
    x: keras.KerasTensor, filters: int, *, stride: int, name: str
) -> keras.KerasTensor:
    """Two 3×3 convolutions, added to their input.

    Where the sum needs another size or number of filters, a 1×1 convolution fits the input.
    """
    skip = _skip(x, filters, stride=stride, name=name)
    x = blocks.convolution(
        x, filters, 3, stride=stride, pad=1, use_bias=False, name=f"{name}_conv1"
    )
    x = blocks.batch_norm(x, name=f"{name}_conv1_bn")
    x = layers.ReLU(name=f"{name}_conv1_relu")(x)
    x = blocks.convolution(x, filters, 3, pad=1, use_bias=False, name=f"{name}_conv2")
    x = blocks.batch_norm(x, name=f"{name}_conv2_bn")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, skip]))


def bottleneck_block(
    x: keras.KerasTensor, filters: int, *, stride: int, name: str
) -> keras.KerasTensor:
    """A 1×1, a 3×3 and a four times wider 1×1 convolution, added to their input.

    The 3×3 convolution strides, as torchvision has it; in the paper the first 1×1 does.
    """
    skip = _skip(x, _WIDENING * filters, stride=stride, name=name)
    for conv, (size, step) in enumerate(((1, 1), (3, stride)), start=1):
        ours = f"{name}_conv{conv}"
        x = blocks.convolution(
            x, filters, size, stride=step, pad=size // 2, use_bias=False, name=ours
        )
        x = blocks.batch_norm(x, name=f"{ours}_bn")
        x = layers.ReLU(name=f"{ours}_relu")(x)
    x = blocks.convolution(x, _WIDENING * filters, 1, use_bias=False, name=f"{name}_conv3")
    x = blocks.batch_norm(x, name=f"{name}_conv3_bn")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, skip]))


def _skip(x: keras.KerasTensor, filters: int, *, stride: int, name: str) -> keras.KerasTensor:
    """The input itself, or fitted by a 1×1 convolution to another size or number of filters."""
    if stride == 1 and x.shape[-1] == filters:
        return x
    x = blocks.convolution(x, filters, 1, stride=stride, use_bias=False, name=f"{name}_skip")
    return blocks.batch_norm(x, name=f"{name}_skip_bn")
