"""The losses that `--loss` and `train(loss=…)` know: one decorated function each.

Most labels are absent from most images, and plain cross-entropy is content to predict none of
them; the last three count positives for more. This module imports Keras only when a loss is made,
so that the command line can list the names at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from cxr_keras.errors import CxrError

if TYPE_CHECKING:
    import keras
    import numpy as np

    MakeLoss: TypeAlias = Callable[[np.ndarray], keras.losses.Loss]

LOSSES: dict[str, MakeLoss] = {}


def register_loss(make: MakeLoss) -> MakeLoss:
    """Register a function as a loss under its own name.

    Args:
        make: labels of the training split, (n, n_labels) of 0, 1 and NaN (not known) → a loss that
            takes truth and logits, both (N, n_labels), and is the mean over the labels of an image.
            A certain, right answer must cost nothing: what is not known is made one.
    """
    LOSSES[make.__name__] = make
    return make


def get_loss(name: str, truth: np.ndarray, *, masked: bool = False) -> keras.losses.Loss:
    """The loss called `name`, for logits.

    Args:
        name: one of `LOSSES`.
        truth: labels of the training split, (n, n_labels), from which weights are taken; NaN where
            a label is not known.
        masked: whether the truth that the loss will be given has NaN in it: such a label counts
            for nothing then, and the loss is the mean over those that are known.

    Raises:
        CxrError: no such loss; the message lists those there are.
    """
    check_loss(name)
    loss = LOSSES[name](truth)
    if not masked:
        return loss
    from cxr_keras.training.loss_functions import KnownLabels

    return KnownLabels(loss)


def check_loss(name: str) -> None:
    """Refuse a name that is none of `LOSSES`.

    Raises:
        CxrError: with those there are.
    """
    if name not in LOSSES:
        raise CxrError(f"There is no loss {name!r}. Choose one of: {', '.join(LOSSES)}.")


@register_loss
def bce(truth: np.ndarray) -> keras.losses.Loss:
    """Binary cross-entropy, taken on logits; the report's sigmoid and BCELoss in value."""
    import keras

    return keras.losses.BinaryCrossentropy(from_logits=True, name="bce")


@register_loss
def bce_logits(truth: np.ndarray) -> keras.losses.Loss:
    """The report's Appendix A, PyTorch's BCEWithLogitsLoss: the same function as `bce` here."""
    return bce(truth)


@register_loss
def weighted_bce(truth: np.ndarray) -> keras.losses.Loss:
    """Cross-entropy in which positives count as often as negatives."""
    from cxr_keras.training import loss_functions

    return loss_functions.WeightedBinaryCrossentropy(loss_functions.positive_weights(truth))


@register_loss
def focal(truth: np.ndarray) -> keras.losses.Loss:
    """Focal loss, γ = 2 and α = 0.75 for the positives."""
    from cxr_keras.training.loss_functions import FocalLoss

    return FocalLoss()


@register_loss
def asymmetric(truth: np.ndarray) -> keras.losses.Loss:
    """Asymmetric loss, γ₊ = 1, γ₋ = 4, margin 0.05."""
    from cxr_keras.training.loss_functions import AsymmetricLoss

    return AsymmetricLoss()
