"""What happens beside the steps of `fit`: the seed of an epoch, NaN, the log."""

from __future__ import annotations

import math
import time
from typing import Any

import keras
import numpy as np

from cxr_keras.training.attention import Batches
from cxr_keras.training.epoch_metrics import EpochMetrics
from cxr_keras.training.processes import ALONE, Team
from cxr_keras.utils.console import Bar, duration, notice


class EpochSeed(keras.callbacks.Callback):
    """Begins each epoch from its own seed: order of samples and dropout depend on nothing before.

    So a resumed run sees what an uninterrupted one would have seen. Of several processes each has
    a dropout of its own.
    """

    def __init__(self, loader: Batches, seed: int, team: Team = ALONE):
        super().__init__()
        self.loader, self.seed, self.team = loader, seed, team

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.loader.start_epoch(epoch)
        parts = [self.seed, epoch, *([self.team.rank] if self.team.rank else [])]
        number = np.random.SeedSequence(parts).generate_state(1)[0]
        keras.utils.set_random_seed(int(number))


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends training in the epoch in which the loss is no number any more, in all processes at once.

    Attributes:
        epoch: the epoch in which it happened, from 1; None while all is well.
    """

    def __init__(self, team: Team = ALONE) -> None:
        super().__init__()
        self.team = team
        self.epoch: int | None = None
        self._now = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._now = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._check((logs or {}).get("loss", 0.0))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._check((logs or {}).get("val_loss", 0.0))

    def _check(self, loss: float) -> None:
        if self.team.any(not math.isfinite(loss)) and self.epoch is None:
            self.epoch = self._now
            self.model.stop_training = True


class OneNetwork(keras.callbacks.Callback):
    """Makes of what several processes have at the end of an epoch one: logs and batch statistics.

    Gradients are averaged, so weights are alike; the moving statistics of batch normalisation are
    each process's own unless they are synchronised, and their mean is taken.

    Args:
        team: the processes.
    """

    def __init__(self, team: Team):
        super().__init__()
        self.team = team

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        if self.team.size == 1:
            return
        mean_statistics(self.model, self.team)
        logs["loss"] = float(self.team.sum([logs["loss"]])[0]) / self.team.size
        for metric in self.model.metrics:
            for counts in metric.variables if isinstance(metric, EpochMetrics) else ():
                counts.assign(self.team.sum(keras.ops.convert_to_numpy(counts.value)))
                logs.update({name: float(value) for name, value in metric.result().items()})


def mean_statistics(model: keras.Model, team: Team) -> None:
    """Give the statistics of batch normalisation their mean over the processes, in place."""
    if team.size == 1:
        return
    for variable in model.non_trainable_variables:
        if keras.backend.is_float_dtype(variable.dtype):
            value = keras.ops.convert_to_numpy(variable.value)
            variable.assign(team.sum(value) / team.size)


class ProgressLog(keras.callbacks.Callback):
    """Moves the bar at every batch and says a line at every epoch, with the time left."""

    def __init__(self, bar: Bar, epochs: int):
        super().__init__()
        self.bar, self.epochs = bar, epochs
        self._begun = time.monotonic()
        self._done = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.bar.advance()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        self._done += 1
        left = (time.monotonic() - self._begun) / self._done * (self.epochs - epoch - 1)
        notice(
            f"epoch {epoch + 1}/{self.epochs}  loss {logs['loss']:.4f}  "
            f"val_loss {logs['val_loss']:.4f}  val_auroc {logs['val_auroc']:.3f}  "
            f"val_recall {logs['val_recall']:.3f}  {duration(left)} left"
        )
