"""Which share of the learning rate each layer of a network takes: the head all of it."""

from __future__ import annotations

import keras

from cxr_keras.errors import CxrError
from cxr_keras.models.blocks import LOGITS
from cxr_keras.models.registry import find_spec
from cxr_keras.training.config import TrainConfig


def body_rates(model: keras.Model, config: TrainConfig) -> dict[str, float]:
    """Path of each trainable variable of the body → its share of the learning rate.

    Empty where all layers train alike. The body takes `body_lr`, its last block whole;
    `layer_decay` takes a factor off from each block to the one before it. What lies between two
    blocks counts to the one after it.

    Args:
        model: the part of the network that trains.
        config: its `lr`, `body_lr` and `layer_decay`.

    Raises:
        CxrError: layer-wise decay of a network whose blocks are not known, or a setting of the
            body where the head trains alone.
    """
    spec = find_spec(config.model)
    if config.layer_decay != 1 and not (spec and spec.blocks):
        raise CxrError(
            f"--layer-decay goes from block to block, and {config.model} names no blocks. Leave it "
            "out, or give --body-lr."
        )
    if config.body_lr is None and config.layer_decay == 1 and not config.head_epochs:
        return {}
    share = 1.0 if config.body_lr is None else config.body_lr / config.lr
    blocks = list(spec.blocks) if spec else []
    rates, depth = {}, 0
    for layer in reversed(model.layers):
        block = spec.block_of(layer.name) if spec else None
        if block is not None:
            depth = len(blocks) - 1 - blocks.index(block)
        if layer.name != LOGITS:
            for variable in layer.trainable_variables:
                rates[variable.path] = share * config.layer_decay**depth
    if not rates:
        given = {
            "--body-lr": config.body_lr is not None,
            "--layer-decay": config.layer_decay != 1,
            "--head-epochs": config.head_epochs > 0,
        }
        named = next(name for name, is_given in given.items() if is_given)
        raise CxrError(
            f"{named} is for the layers before the head, and the head of {config.model} trains "
            "alone. Give --fine-tune all, or leave it out."
        )
    return rates
