"""KerasCV's backbones, behind the extra `cxr-keras[keras-cv]`, imported only when one is built.

The backbones are built from explicit settings, so nothing is fetched. Their graph is laid into
ours layer by layer, and its layers are Keras's own: the saved file loads without KerasCV.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import keras

from cxr_keras.errors import ModelError
from cxr_keras.models.registry import register_model

EXTRA = 'python -m pip install "cxr-keras[keras-cv]"'


def load_keras_cv(name: str) -> Any:
    """Import KerasCV for the network `name`.

    Raises:
        ModelError: it is not installed; the message has the install command.
    """
    try:
        return importlib.import_module("keras_cv")
    except ImportError as error:
        raise ModelError(f"{name} needs KerasCV, which is not installed. Run: {EXTRA}") from error


def _lay_into(
    x: keras.KerasTensor, name: str, make: Callable[[Any, Any], keras.Model]
) -> keras.KerasTensor:
    """Run a backbone's layers on `x` one by one, then pool: (N, side, side, 3) → (N, D)."""
    backbone = make(load_keras_cv(name).models, tuple(x.shape[1:]))
    outputs = [x]

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        outputs.append(layer(*args, **kwargs))
        return outputs[-1]

    # New layers, called on `x` first; the model that comes of it has an input of its own
    keras.models.clone_model(backbone, input_tensors=x, call_function=call)
    return keras.layers.GlobalAveragePooling2D(name="pool")(outputs[-1])


def _resnet(
    x: keras.KerasTensor, name: str, blocks: list[int], block_type: str
) -> keras.KerasTensor:
    def make(models: Any, shape: Any) -> keras.Model:
        return models.ResNetBackbone(
            stackwise_filters=[64, 128, 256, 512],
            stackwise_blocks=blocks,
            stackwise_strides=[1, 2, 2, 2],
            block_type=block_type,
            include_rescaling=False,
            input_shape=shape,
        )

    return _lay_into(x, name, make)


@register_model(source="KerasCV's ResNet18 (extra keras-cv), random weights")
def kerascv_resnet18(x: keras.KerasTensor) -> keras.KerasTensor:
    """KerasCV's ResNet18 (He et al. 2015, https://arxiv.org/abs/1512.03385): 512 features."""
    return _resnet(x, "kerascv_resnet18", [2, 2, 2, 2], "basic_block")


@register_model(source="KerasCV's ResNet50 (extra keras-cv), random weights")
def kerascv_resnet50(x: keras.KerasTensor) -> keras.KerasTensor:
    """KerasCV's ResNet50 (He et al. 2015, https://arxiv.org/abs/1512.03385): 2048 features."""
    return _resnet(x, "kerascv_resnet50", [3, 4, 6, 3], "block")


@register_model(source="KerasCV's DenseNet121 (extra keras-cv), random weights")
def kerascv_densenet121(x: keras.KerasTensor) -> keras.KerasTensor:
    """KerasCV's DenseNet121 (Huang et al. 2016, https://arxiv.org/abs/1608.06993)."""

    def make(models: Any, shape: Any) -> keras.Model:
        return models.DenseNetBackbone(
            stackwise_num_repeats=[6, 12, 24, 16],
            include_rescaling=False,
            input_shape=shape,
        )

    return _lay_into(x, "kerascv_densenet121", make)
