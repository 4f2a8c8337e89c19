"""AlexNet: Krizhevsky, "One weird trick for parallelizing convolutional neural networks",
https://arxiv.org/abs/1404.5997 (the layer widths that torchvision uses).
"""

from __future__ import annotations

import keras
from keras import layers

from cxr_keras.models import blocks
from cxr_keras.models.adaptive import average_to
from cxr_keras.models.registry import register_model
from cxr_keras.models.weights import Pretrained

# filters, kernel, stride, padding, whether a 3×3/2 max pooling follows
_CONVOLUTIONS = (
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)
_PLACES = 6  # rows and columns that the dense layers take
_BLOCKS = ("conv1", "conv2", "conv3", "conv4", "conv5", "dense1", "dense2")
_IMAGENET = Pretrained(
    file="alexnet-owt-7be5be79.pth",
    layers={
        "conv1": "features.0",
        "conv2": "features.3",
        "conv3": "features.6",
        "conv4": "features.8",
        "conv5": "features.10",
        "dense1": "classifier.1",
        "dense2": "classifier.4",
    },
    head="classifier.6",
    flattened={"dense1": (256, _PLACES, _PLACES)},
)


@register_model(source="torchvision's AlexNet", blocks=_BLOCKS, pretrained=_IMAGENET)
def alexnet(x: keras.KerasTensor) -> keras.KerasTensor:
    """AlexNet as torchvision has it: five convolutions, two dense layers, no normalisation.

    It averages to 6×6 before it flattens; at 223 to 254 px that changes nothing.

    Args:
        x: (N, 224, 224, 3) normalised radiographs.

    Returns:
        (N, 4096) features.
    """
    return alexnet_classifier(alexnet_features(x, batch_norm=False))


@register_model(
    source="the report's custom network: AlexNet with batch normalisation, 3 dense layers",
    blocks=_BLOCKS,
)
def alexnet_custom(x: keras.KerasTensor) -> keras.KerasTensor:
    """AlexNet's five convolutions, each followed by batch normalisation, from random weights.

    Args:
        x: (N, 224, 224, 3) normalised radiographs.

    Returns:
        (N, 4096) features, what the 15-way head takes.
    """
    return alexnet_classifier(alexnet_features(x, batch_norm=True))


def alexnet_features(x: keras.KerasTensor, *, batch_norm: bool) -> keras.KerasTensor:
    """The convolutional part: (N, 224, 224, 3) → (N, 6, 6, 256), of other sizes likewise."""
    for index, (filters, size, stride, pad, pool) in enumerate(_CONVOLUTIONS, start=1):
        x = blocks.convolution(x, filters, size, stride=stride, pad=pad, name=f"conv{index}")
        if batch_norm:
            x = blocks.batch_norm(x, name=f"conv{index}_bn")
        x = layers.ReLU(name=f"conv{index}_relu")(x)
        if pool:
            x = layers.MaxPooling2D(3, 2, name=f"pool{index}")(x)
    return x


def alexnet_classifier(x: keras.KerasTensor) -> keras.KerasTensor:
    """Dropout and two dense layers: (N, h, w, 256) → (N, 4096)."""
    x = layers.Flatten(name="flatten")(average_to(x, _PLACES))
    for index in (1, 2):
        x = layers.Dropout(0.5, name=f"dropout{index}")(x)
        x = blocks.dense_relu(x, 4096, name=f"dense{index}")
    return x
