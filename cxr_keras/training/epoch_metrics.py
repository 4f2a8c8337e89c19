"""Precision, recall and AUC while a network trains, out of one histogram."""

from __future__ import annotations

from typing import Any

import keras

BINS = 200  # of equal width over probabilities 0…1; 0.5 is an edge


class EpochMetrics(keras.metrics.Metric):
    """Precision and recall over all labels at probability 0.5, and the mean AUC of the labels.

    Equal to `keras.metrics.Precision`, `Recall` and `AUC(multi_label=True, num_thresholds=201)`,
    which count each batch one after the other, at a third of their cost: a batch is counted once,
    into a histogram of the probabilities by truth and label. `fit` logs the three under the names
    "precision", "recall" and "auc". As in Keras, a label with one class has an AUC of 0, and a
    ratio of nothing is 0; the tables of `cxr_keras.metrics.per_label` call both undefined.

    Args:
        labels: number of labels.
        **options: for `keras.metrics.Metric`.
    """

    def __init__(self, labels: int, **options: Any):
        super().__init__(**options)
        self.labels = labels
        self._counts = self.add_variable((2, labels, BINS), "zeros", "float32", name="counts")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch: truth and logits of shape (n_samples, n_labels).

        A logit that is NaN counts as "no"; where the truth is NaN, not known, nothing is counted.
        """
        ops = keras.ops
        probability = ops.nan_to_num(ops.sigmoid(ops.cast(y_pred, "float32")))
        # bin k holds k/BINS < p ≤ (k+1)/BINS: an edge is not above itself
        bins = ops.cast(ops.clip(ops.ceil(probability * BINS) - 1, 0, BINS - 1), "int32")
        present = ops.cast(y_true > 0.5, "int32")  # smoothed or mixed labels are fractions
        place = present * self.labels + ops.arange(self.labels, dtype="int32")
        size = 2 * self.labels * BINS
        place = ops.where(ops.isnan(y_true), size, place * BINS + bins)  # one bin more
        counts = _count(ops.reshape(place, (-1,)), size + 1)[:size]
        self._counts.assign_add(ops.cast(ops.reshape(counts, self._counts.shape), "float32"))

    def result(self) -> dict[str, Any]:
        """The three measures so far, as 0-dimensional tensors."""
        ops = keras.ops
        counts = ops.cast(self._counts, "int32")  # CUDA adds up whole numbers in any order alike
        above = ops.flip(ops.cumsum(ops.flip(counts, axis=-1), axis=-1), axis=-1)
        above = ops.cast(above, "float32")
        predicted = ops.sum(above[..., BINS // 2], axis=1)
        false_positives, hits = predicted[0], predicted[1]
        positives = above[1, :, :1]
        false_rate = ops.divide_no_nan(above[0], above[0, :, :1])
        true_rate = ops.divide_no_nan(above[1], positives)
        false_rate = ops.pad(false_rate, ((0, 0), (0, 1)))  # the curve ends at (0, 0)
        true_rate = ops.pad(true_rate, ((0, 0), (0, 1)))
        width = false_rate[:, :-1] - false_rate[:, 1:]
        height = (true_rate[:, :-1] + true_rate[:, 1:]) / 2
        return {
            "precision": ops.divide_no_nan(hits, hits + false_positives),
            "recall": ops.divide_no_nan(hits, ops.sum(positives)),
            "auc": ops.mean(ops.sum(width * height, axis=1)),
        }


def _count(places: Any, size: int) -> Any:
    """How often each number below `size` is among `places`; both functions count, exactly."""
    if keras.backend.backend() == "torch":
        return keras.ops.bincount(places, minlength=size)
    # What JAX and TensorFlow compile must know its shape before its values
    ones = keras.ops.ones_like(places)
    return keras.ops.segment_sum(ones, places, num_segments=size)
