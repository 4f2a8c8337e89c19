"""Which layers of a network train.

A network with pretrained weights trains its new head only; `fine_tune` unfreezes its last blocks
or all of it. Frozen batch normalisation runs on its stored statistics, also while the rest
trains; in an unfrozen block it is trained like any other layer: it normalises by the batch and
updates its running statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from cxr_keras.errors import ModelError
from cxr_keras.models.blocks import LOGITS
from cxr_keras.models.registry import ModelSpec

ALL = "all"


@dataclass(frozen=True)
class TrainableCount:
    """How many of a network's parameters train."""

    trainable: int
    total: int

    def __str__(self) -> str:
        share = "all" if self.trainable == self.total else f"{self.trainable:,}"
        return f"{share} of {self.total:,} parameters train"


def freeze(
    model: keras.Model, spec: ModelSpec, *, pretrained: bool, fine_tune: str | int | None
) -> TrainableCount:
    """Set `trainable` of every layer of `model`.

    Args:
        model: a network of `spec`.
        spec: for its blocks.
        pretrained: whether its body holds pretrained weights; a random body trains whole.
        fine_tune: None for the head alone, a number for the last blocks, "all" for everything.

    Returns:
        How many parameters train.

    Raises:
        ModelError: `fine_tune` without pretrained weights, or more blocks than there are.
    """
    if fine_tune is not None and not pretrained:
        raise ModelError(
            f"--fine-tune unfreezes pretrained weights, and {spec.name} starts from random ones: "
            "all of it trains anyway. Leave --fine-tune out, or give --weights."
        )
    if pretrained and fine_tune != ALL:
        unfrozen = _last_blocks(spec, fine_tune)
        for layer in model.layers:
            layer.trainable = layer.name == LOGITS or spec.block_of(layer.name) in unfrozen
    return count_trainable(model)


def count_trainable(model: keras.Model) -> TrainableCount:
    """How many parameters train; running statistics are not trained and not counted."""
    return TrainableCount(_size(model.trainable_weights), _size(_parameters(model)))


def _last_blocks(spec: ModelSpec, fine_tune: str | int | None) -> tuple[str, ...]:
    number = int(fine_tune or 0)
    if not 0 <= number <= len(spec.blocks):
        raise ModelError(
            f"{spec.name} has {len(spec.blocks)} blocks ({', '.join(spec.blocks)}). "
            f"Received: --fine-tune {fine_tune}; give --fine-tune alone for all of them."
        )
    return spec.blocks[len(spec.blocks) - number :]


def _parameters(model: keras.Model) -> list[keras.Variable]:
    """Everything that could train: weights less batch normalisation's running statistics."""
    running = ("moving_mean", "moving_variance")
    return [weight for weight in model.weights if weight.name not in running]


def _size(weights: list[keras.Variable]) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)
