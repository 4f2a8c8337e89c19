"""How good a network is after an epoch: loss and exact measures on the validation split."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from cxr_keras.data.preparation import PreparedSplit
from cxr_keras.errors import CxrError
from cxr_keras.inference.forward import forward_split
from cxr_keras.metrics.weighted import auroc_and_ap_once
from cxr_keras.models.blocks import all_layers
from cxr_keras.training.attention import Batches
from cxr_keras.training.callbacks import mean_statistics
from cxr_keras.training.checkpoint import Recorder, assign, changing_variables, snapshot
from cxr_keras.training.epoch_metrics import EpochMetrics
from cxr_keras.training.processes import ALONE, Team

EXACT = ("val_auroc", "val_ap")  # in the order of `weighted.auroc_and_ap_once`
_COUNTED_ANEW = 32  # batches from which an averaged network's batch statistics are counted


class Validation(keras.callbacks.Callback):
    """Runs the network over the validation split after each epoch, and puts val_… into the logs.

    The macro averages val_auroc and val_ap are over the findings with both classes, exact, unlike
    val_auc, which comes from a histogram. With an average of the weights (`--ema`), the average is
    what is measured and given to the recorder; the training goes on from the weights themselves.

    Args:
        logits: the network that is measured: what trains, or where that needs more than pixels a
            network of the same layers.
        split: the validation split.
        recorder: gets the averaged weights.
        batches: of the training split; batch normalisation's statistics of the averaged weights
            are counted on the first 32 of them. None where the weights are not averaged.
        findings: (labels,) which of the labels are findings.
        team: the processes of the training; each runs the network over a part of the split.
    """

    def __init__(
        self,
        logits: keras.Model,
        split: PreparedSplit,
        recorder: Recorder,
        batches: Batches | None = None,
        *,
        findings: np.ndarray,
        team: Team = ALONE,
    ):
        super().__init__()
        self.logits = logits
        self.split, self.recorder, self.batches = split, recorder, batches
        self.findings, self.team = findings, team
        self._begun = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._begun = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        self.recorder.training_seconds.append(time.monotonic() - self._begun)
        if self.batches is None:
            logs.update(self._measure())
            return
        with averaged(self.model, self.batches, self.team):
            logs.update(self._measure())
            self.recorder.averaged = snapshot(
                changing_variables(self.model), into=self.recorder.averaged
            )

    def _measure(self) -> dict[str, float]:
        own = np.array_split(np.arange(len(self.split)), self.team.size)[self.team.rank]
        part = self.split.part(own) if self.team.size > 1 else self.split
        logits = self.team.gathered(forward_split(self.logits, part, quiet=True))
        truth = self.split.truth
        counts = EpochMetrics(logits.shape[1])
        counts.update_state(truth, logits)
        found = {f"val_{name}": float(value) for name, value in counts.result().items()}
        found["val_loss"] = float(self.model.loss(truth, logits))
        return found | macro_averages(truth, logits, self.findings)


def macro_averages(truth: np.ndarray, logits: np.ndarray, findings: np.ndarray) -> dict[str, float]:
    """Exact mean AUROC and average precision of the findings; NaN for logits that are no numbers.

    Args:
        truth: (n, labels) of 0, 1 and NaN (not known).
        logits: (n, labels).
        findings: (labels,) which of them are findings; "No Finding" is none.
    """
    if not np.isfinite(logits).all():
        return dict.fromkeys(EXACT, float("nan"))
    found = []
    for i in np.flatnonzero(findings):
        known = ~np.isnan(truth[:, i])
        found.append(auroc_and_ap_once(truth[known, i] > 0, logits[known, i]))
    defined = np.array([pair for pair in found if not np.isnan(pair).any()])
    means = defined.mean(axis=0) if len(defined) else (float("nan"),) * len(EXACT)
    return dict(zip(EXACT, map(float, means), strict=True))


def check_monitor(monitor: str, truth: np.ndarray, findings: np.ndarray) -> None:
    """Refuse to choose an epoch by a measure that the validation split does not have.

    Args:
        monitor: one of `config.MONITORS`.
        truth: labels of the validation split.
        findings: which of them are findings.

    Raises:
        CxrError: it is undefined there.
    """
    chosen = truth[:, findings]
    both = (chosen == 1).any(axis=0) & (chosen == 0).any(axis=0)
    if monitor in EXACT and not both.any():
        raise CxrError(
            f"{monitor} needs a finding that some of the {len(truth):,} validation images have and "
            "others have not, and there is none. Give --monitor val_loss, or more images."
        )


@contextmanager
def averaged(model: keras.Model, batches: Batches, team: Team = ALONE) -> Iterator[None]:
    """Within the body, `model` has the average of its weights; afterwards its own.

    Its batch normalisation statistics are counted anew on training batches: those that the
    training keeps belong to other weights. Each process counts on its own share of them.
    """
    variables = changing_variables(model)
    own = snapshot(variables)
    model.optimizer.finalize_variable_values(model.trainable_variables)
    copies = snapshot(variables)  # JAX would give the optimizer's own arrays away as it predicts
    assign(variables, lambda place: copies[place])
    _count_statistics(model, batches)
    mean_statistics(model, team)
    try:
        yield
    finally:
        assign(variables, lambda place: own[place])


def _count_statistics(model: keras.Model, batches: Batches) -> None:
    """Give each layer of batch normalisation the mean statistics of some training batches."""
    counted = [
        layer
        for layer in all_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    momenta = [layer.momentum for layer in counted]
    try:
        for number in range(min(_COUNTED_ANEW, len(batches)) if counted else 0):
            for layer in counted:
                layer.momentum = number / (number + 1)  # the mean of all so far
            _run_in_training_mode(model, batches[number][0])
    finally:
        for layer, momentum in zip(counted, momenta, strict=True):
            layer.momentum = momentum


def _run_in_training_mode(model: keras.Model, pixels: Any) -> None:
    if keras.backend.backend() == "torch":
        import torch

        with torch.no_grad():
            model(pixels, training=True)
    else:
        model(pixels, training=True)
