"""The losses' arithmetic; `losses.py` lists them by name.

Each takes logits, not probabilities: Keras clips probabilities inside binary cross-entropy, and
a saturated sigmoid then has no gradient. The sigmoid stays in the saved network. Truth and logits
are (N, n_labels); a loss is the mean over the labels of each image.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

MAX_POSITIVE_WEIGHT = 100.0
_CERTAIN = 100.0  # a logit whose sigmoid is 0 or 1 in float32

_serializable = keras.saving.register_keras_serializable(package="cxr_keras")


@_serializable
class WeightedBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy in which a label's positives count `positive_weights` times.

    w·y·(-log p) + (1-y)·(-log(1-p)), as PyTorch's `BCEWithLogitsLoss(pos_weight=w)`.

    Args:
        positive_weights: one weight per label, 1 for no change.
        name: of the loss.
        **options: for `keras.losses.Loss`.
    """

    def __init__(
        self, positive_weights: list[float], name: str = "weighted_bce", **options: Any
    ) -> None:
        super().__init__(name=name, **options)
        self.positive_weights = [float(weight) for weight in positive_weights]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each image, shape (N,)."""
        weights = ops.convert_to_tensor(self.positive_weights, dtype=y_pred.dtype)
        positive, negative = _log_terms(y_pred)
        return -ops.mean(weights * y_true * positive + (1.0 - y_true) * negative, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """What rebuilds the loss."""
        return super().get_config() | {"positive_weights": self.positive_weights}


@_serializable
class FocalLoss(keras.losses.Loss):
    """Focal loss: the better an answer already is, the less it counts.

    -α·y·(1-p)^γ·log p - (1-α)·(1-y)·p^γ·log(1-p): Lin et al., "Focal Loss for Dense Object
    Detection", ICCV 2017, https://arxiv.org/abs/1708.02002.

    Args:
        gamma: how fast good answers lose weight; 0 is cross-entropy.
        alpha: weight of the positives; the negatives weigh 1 - alpha. The paper's 0.25 suits
            detectors; rare findings are served by its mirror image.
        name: of the loss.
        **options: for `keras.losses.Loss`.
    """

    def __init__(
        self, gamma: float = 2.0, alpha: float = 0.75, name: str = "focal", **options: Any
    ) -> None:
        super().__init__(name=name, **options)
        self.gamma, self.alpha = gamma, alpha

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each image, shape (N,)."""
        positive, negative = _log_terms(y_pred)
        yes = self.alpha * y_true * ops.exp(self.gamma * negative) * positive
        no = (1.0 - self.alpha) * (1.0 - y_true) * ops.exp(self.gamma * positive) * negative
        return -ops.mean(yes + no, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """What rebuilds the loss."""
        return super().get_config() | {"gamma": self.gamma, "alpha": self.alpha}


@_serializable
class AsymmetricLoss(keras.losses.Loss):
    """Asymmetric loss: easy "no"s fade faster than easy "yes"es, and the easiest are dropped.

    -y·(1-p)^γ₊·log p - (1-y)·q^γ₋·log(1-q) with q = max(p - margin, 0): Ridnik et al.,
    "Asymmetric Loss For Multi-Label Classification", ICCV 2021,
    https://arxiv.org/abs/2009.14119, with its γ₊ = 1, γ₋ = 4, margin 0.05.

    Args:
        gamma_positive: focusing of the positives.
        gamma_negative: focusing of the negatives.
        margin: a negative with a probability below it costs nothing.
        name: of the loss.
        **options: for `keras.losses.Loss`.
    """

    def __init__(
        self,
        gamma_positive: float = 1.0,
        gamma_negative: float = 4.0,
        margin: float = 0.05,
        name: str = "asymmetric",
        **options: Any,
    ) -> None:
        super().__init__(name=name, **options)
        self.gamma_positive, self.gamma_negative = gamma_positive, gamma_negative
        self.margin = margin

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each image, shape (N,)."""
        positive, negative = _log_terms(y_pred)
        yes = y_true * ops.exp(self.gamma_positive * negative) * positive
        # 1 - q = min(1 - p + margin, 1), kept away from 0 so that the power has a gradient
        rest = ops.minimum(ops.exp(negative) + self.margin, 1.0)
        shifted = ops.maximum(1.0 - rest, 0.0)
        no = (1.0 - y_true) * ops.power(shifted, self.gamma_negative) * ops.log(rest)
        return -ops.mean(yes + no, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """What rebuilds the loss."""
        return super().get_config() | {
            "gamma_positive": self.gamma_positive,
            "gamma_negative": self.gamma_negative,
            "margin": self.margin,
        }


class KnownLabels(keras.losses.Loss):
    """Another loss, over the labels that are known; NaN in the truth says that one is not.

    An unknown label becomes a certain and right "no", which costs nothing and has no gradient; the
    sum is then divided by the number of known labels in the batch, 0 where there is none.

    Args:
        loss: takes truth and logits, (N, n_labels), and gives the mean over each image's labels.
    """

    def __init__(self, loss: keras.losses.Loss) -> None:
        super().__init__(name=loss.name)
        self.loss = loss

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each image, shape (N,), such that its mean is that over the known labels."""
        unknown = ops.isnan(y_true)
        truth = ops.where(unknown, ops.zeros_like(y_true), y_true)
        logits = ops.where(unknown, ops.full_like(y_pred, -_CERTAIN), y_pred)
        known = ops.sum(ops.cast(ops.logical_not(unknown), y_pred.dtype))
        every = ops.cast(ops.size(y_true), y_pred.dtype)
        return self.loss.call(truth, logits) * (every / ops.maximum(known, 1.0))


def positive_weights(truth: np.ndarray) -> list[float]:
    """Negatives over positives of each label in the training split, at most 100.

    A label without a positive keeps the weight 1: there is nothing to strengthen. Where a label is
    not known (NaN), the image does not count.
    """
    positives = np.nansum(truth, axis=0)
    ratio = ((~np.isnan(truth)).sum(axis=0) - positives) / np.maximum(positives, 1)
    weights = np.where(positives > 0, np.clip(ratio, 1.0 / MAX_POSITIVE_WEIGHT, None), 1.0)
    return [float(weight) for weight in np.minimum(weights, MAX_POSITIVE_WEIGHT)]


def _log_terms(logits: Any) -> tuple[Any, Any]:
    """Log p and log(1-p), exact for logits of any size."""
    return ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
