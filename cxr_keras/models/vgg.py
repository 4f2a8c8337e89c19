"""VGG: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", https://arxiv.org/abs/1409.1556 (its configurations D and E).
"""

from __future__ import annotations

import keras
from keras import layers

from cxr_keras.models import blocks
from cxr_keras.models.adaptive import average_to
from cxr_keras.models.registry import register_model
from cxr_keras.models.weights import Pretrained

_FILTERS = (64, 128, 256, 512, 512)
_VGG16 = (2, 2, 3, 3, 3)  # convolutions in each block
_VGG19 = (2, 2, 4, 4, 4)
_PLACES = 7  # rows and columns that the dense layers take
_BLOCKS = ("block1", "block2", "block3", "block4", "block5", "dense1", "dense2")


def _imagenet(file: str, depths: tuple[int, ...]) -> Pretrained:
    """Torchvision numbers the members of one sequence: convolution, ReLU, …, pooling."""
    names, place = {}, 0
    for block, depth in enumerate(depths, start=1):
        for conv in range(1, depth + 1):
            names[f"block{block}_conv{conv}"] = f"features.{place}"
            place += 2  # the convolution and its ReLU
        place += 1  # the pooling
    return Pretrained(
        file=file,
        layers=names | {"dense1": "classifier.0", "dense2": "classifier.3"},
        head="classifier.6",
        flattened={"dense1": (512, _PLACES, _PLACES)},
    )


@register_model(
    source="torchvision's VGG16",
    blocks=_BLOCKS,
    pretrained=_imagenet("vgg16-397923af.pth", _VGG16),
)
def vgg16(x: keras.KerasTensor) -> keras.KerasTensor:
    """VGG16 as torchvision has it: 13 convolutions, two dense layers, no normalisation.

    Args:
        x: (N, 224, 224, 3) normalised radiographs.

    Returns:
        (N, 4096) features.
    """
    return _vgg(x, _VGG16)


@register_model(
    source="torchvision's VGG19",
    blocks=_BLOCKS,
    pretrained=_imagenet("vgg19-dcbb9e9d.pth", _VGG19),
)
def vgg19(x: keras.KerasTensor) -> keras.KerasTensor:
    """VGG19 as torchvision has it: 16 convolutions, two dense layers, no normalisation.

    Args:
        x: (N, 224, 224, 3) normalised radiographs.

    Returns:
        (N, 4096) features.
    """
    return _vgg(x, _VGG19)


def _vgg(x: keras.KerasTensor, depths: tuple[int, ...]) -> keras.KerasTensor:
    """As torchvision's: averaged to 7×7 before it flattens, which changes nothing at 224 px."""
    for block, (filters, depth) in enumerate(zip(_FILTERS, depths, strict=True), start=1):
        for conv in range(1, depth + 1):
            x = _convolution_relu(x, filters, name=f"block{block}_conv{conv}")
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.Flatten(name="flatten")(average_to(x, _PLACES))
    for index in (1, 2):
        x = blocks.dense_relu(x, 4096, name=f"dense{index}")
        x = layers.Dropout(0.5, name=f"dropout{index}")(x)
    return x


def _convolution_relu(x: keras.KerasTensor, filters: int, *, name: str) -> keras.KerasTensor:
    """A 3×3 convolution and ReLU, started as torchvision starts it (He, "fan out").

    PyTorch's default start, which the other families use, halves the signal at every layer;
    sixteen layers without normalisation would have none left to learn from.
    """
    x = layers.Conv2D(filters, 3, padding="same", kernel_initializer=_he_fan_out(), name=name)(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _he_fan_out() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(
        2.0, mode="fan_out", distribution="untruncated_normal"
    )
