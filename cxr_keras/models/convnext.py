"""ConvNeXt: Liu, Mao, Wu, Feichtenhofer, Darrell, Xie, "A ConvNet for the 2020s",
https://arxiv.org/abs/2201.03545.
"""

from __future__ import annotations

import keras
from keras import layers

from cxr_keras.models import blocks
from cxr_keras.models.registry import register_model
from cxr_keras.models.weights import Pretrained

_TINY = ((96, 3), (192, 3), (384, 9), (768, 3))  # filters and blocks of each stage
_WIDENING = 4  # between a block's two dense layers
_SCALE = 1e-6  # of a new block's share in the sum
_EPSILON = 1e-6


def _torch_names() -> dict[str, str]:
    """Keras layer → torchvision's name of it, for ConvNeXt-Tiny."""
    names = {"stem_conv": "features.0.0", "stem_norm": "features.0.1"}
    for stage, (_, depth) in enumerate(_TINY, start=1):
        if stage > 1:
            names[f"stage{stage}_down_norm"] = f"features.{2 * stage - 2}.0"
            names[f"stage{stage}_down"] = f"features.{2 * stage - 2}.1"
        for block in range(depth):
            ours, theirs = f"stage{stage}_{block}", f"features.{2 * stage - 1}.{block}"
            names |= {
                f"{ours}_depthwise": f"{theirs}.block.0",
                f"{ours}_norm": f"{theirs}.block.2",
                f"{ours}_widen": f"{theirs}.block.3",
                f"{ours}_narrow": f"{theirs}.block.5",
                f"{ours}_scale": theirs,
            }
    return names | {f"stage{len(_TINY)}_norm": "classifier.0"}


@register_model(
    source="torchvision's ConvNeXt-Tiny",
    blocks=("stem", "stage1", "stage2", "stage3", "stage4"),
    pretrained=Pretrained(
        file="convnext_tiny-983f1562.pth", layers=_torch_names(), head="classifier.2"
    ),
    recipe="modern",
)
def convnext_tiny(x: keras.KerasTensor) -> keras.KerasTensor:
    """ConvNeXt-Tiny as torchvision has it, without its dropping of whole blocks in training.

    Args:
        x: (N, 224, 224, 3) normalised radiographs.

    Returns:
        (N, 768) features, averaged over the 7×7 places and normalised.
    """
    x = blocks.convolution(x, _TINY[0][0], 4, stride=4, name="stem_conv")
    x = _layer_norm(x, name="stem_norm")
    for stage, (filters, depth) in enumerate(_TINY, start=1):
        if stage > 1:
            x = _layer_norm(x, name=f"stage{stage}_down_norm")
            x = blocks.convolution(x, filters, 2, stride=2, name=f"stage{stage}_down")
        for block in range(depth):
            x = _block(x, filters, name=f"stage{stage}_{block}")
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return _layer_norm(x, name=f"stage{len(_TINY)}_norm")


def _block(x: keras.KerasTensor, filters: int, *, name: str) -> keras.KerasTensor:
    """Each channel filtered by itself, two dense layers over the channels of each place, a scale.

    The scale of each channel is an einsum: the one built-in layer that trains a factor alone.
    """
    skip = x
    x = layers.DepthwiseConv2D(
        7,
        padding="same",
        depthwise_initializer=blocks.torch_uniform_depthwise(),
        name=f"{name}_depthwise",
    )(x)
    x = _layer_norm(x, name=f"{name}_norm")
    x = _dense(x, _WIDENING * filters, name=f"{name}_widen")
    x = layers.Activation("gelu", name=f"{name}_gelu")(x)
    x = _dense(x, filters, name=f"{name}_narrow")
    x = layers.EinsumDense(
        "nhwc,c->nhwc",
        output_shape=x.shape[1:],
        kernel_initializer=keras.initializers.Constant(_SCALE),
        name=f"{name}_scale",
    )(x)
    return layers.Add(name=f"{name}_add")([x, skip])


def _dense(x: keras.KerasTensor, units: int, *, name: str) -> keras.KerasTensor:
    return layers.Dense(units, kernel_initializer=blocks.torch_uniform(), name=name)(x)


def _layer_norm(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return layers.LayerNormalization(epsilon=_EPSILON, name=name)(x)
