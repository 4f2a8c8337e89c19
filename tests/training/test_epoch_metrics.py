"""The measures of an epoch against Keras's own."""

import keras
import numpy as np
import pytest

from cxr_keras.training.epoch_metrics import EpochMetrics


def keras_own(batches, labels):
    precision, recall = keras.metrics.Precision(), keras.metrics.Recall()
    auc = keras.metrics.AUC(multi_label=True, num_labels=labels, num_thresholds=201)
    for truth, logits in batches:
        probability = keras.ops.sigmoid(logits)
        for metric in (precision, recall, auc):
            metric.update_state(truth, probability)
    return {"precision": precision.result(), "recall": recall.result(), "auc": auc.result()}


def batches_of(rng, labels, kind):
    for size in (16, 16, 5):
        truth = (rng.random((size, labels)) < 0.3).astype("float32")
        logits = rng.normal(truth, 2.0).astype("float32")
        if kind == "ties":
            logits = np.round(logits)
        if kind == "extreme":
            logits *= 50
        if kind == "one class":
            truth[:, 0] = 1
            truth[:, 1] = 0
        if kind == "constant":
            logits[:] = 0
        yield truth, logits


@pytest.mark.parametrize("kind", ["usual", "ties", "extreme", "one class", "constant"])
def test_equal_to_kerass_precision_recall_and_auc(kind):
    batches = list(batches_of(np.random.default_rng(3), 5, kind))
    metric = EpochMetrics(labels=5)
    for truth, logits in batches:
        metric.update_state(truth, logits)
    expected = keras_own(batches, 5)
    for name, value in metric.result().items():
        assert float(value) == pytest.approx(float(expected[name]), abs=1e-6), name


def test_a_reset_forgets():
    metric = EpochMetrics(labels=2)
    metric.update_state(np.ones((4, 2)), np.full((4, 2), 3.0))
    assert float(metric.result()["recall"]) == 1
    metric.reset_state()
    metric.update_state(np.ones((4, 2)), np.full((4, 2), -3.0))
    assert float(metric.result()["recall"]) == 0
