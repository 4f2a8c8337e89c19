"""Learning rates over a training: each a function of the step, so that a resumed run goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from cxr_keras.training.config import TrainConfig

ONE_CYCLE_START = 25.0  # the first rate is the highest over this, as in torch's OneCycleLR
ONE_CYCLE_CLIMB = 0.3  # share of the steps, as there
PLATEAU_PATIENCE, PLATEAU_FACTOR = 3, 0.1


class CosineWithWarmup(keras.optimizers.schedules.LearningRateSchedule):
    """From a first rate up to the highest, along half a cosine, and down to 0 along another.

    With a short climb this is cosine decay with warm-up (Loshchilov and Hutter, "SGDR", ICLR 2017,
    https://arxiv.org/abs/1608.03983); with a long one, one cycle (Smith and Topin,
    "Super-Convergence", https://arxiv.org/abs/1708.07120), of the rate alone.

    Args:
        highest: the rate at the end of the climb.
        steps: of the whole training.
        climb: share of the steps before the highest.
        first: the rate of the first step, as a share of the highest.
    """

    def __init__(self, highest: float, steps: int, *, climb: float, first: float = 0.0):
        super().__init__()
        self.highest, self.steps, self.climb, self.first = highest, steps, climb, first

    def __call__(self, step: Any) -> Any:
        """The rate of a step, from 0."""
        ops = keras.ops
        done = ops.cast(step, "float32") / max(self.steps, 1)
        climbed = ops.minimum(done / max(self.climb, 1e-9), 1.0)
        fallen = ops.clip((done - self.climb) / (1.0 - self.climb), 0.0, 1.0)
        up = self.first + (1.0 - self.first) * (1.0 - ops.cos(math.pi * climbed)) / 2.0
        down = (1.0 + ops.cos(math.pi * fallen)) / 2.0
        return self.highest * ops.where(done < self.climb, up, down)

    def get_config(self) -> dict[str, Any]:
        """What rebuilds the schedule."""
        names = ("highest", "steps", "climb", "first")
        return {name: getattr(self, name) for name in names}


def learning_rate(config: TrainConfig, steps: int) -> Any:
    """What an optimizer of Keras takes as its learning rate.

    Args:
        config: its `schedule`, `lr` and `warmup`.
        steps: batches of the whole training.
    """
    if config.schedule == "cosine":
        return CosineWithWarmup(config.lr, steps, climb=config.warmup)
    if config.schedule == "one-cycle":
        first = 1 / ONE_CYCLE_START
        return CosineWithWarmup(config.lr, steps, climb=ONE_CYCLE_CLIMB, first=first)
    return config.lr


class Plateau(keras.callbacks.Callback):
    """Sets each epoch's rate by what the monitored value did before it, see `plateau_rate`.

    Args:
        highest: the first rate.
        values: gives the monitored value of each epoch so far, higher being better.
    """

    def __init__(self, highest: float, values: Any):
        super().__init__()
        self.highest, self.values = highest, values

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = plateau_rate(self.highest, self.values())


def plateau_rate(highest: float, values: Sequence[float]) -> float:
    """The rate after epochs of these values: a tenth whenever 3 in a row brought nothing better.

    Args:
        highest: the first rate.
        values: one per epoch, higher is better; NaN is never better.
    """
    rate, best, waited = highest, -math.inf, 0
    for value in values:
        waited = 0 if value > best else waited + 1
        best = max(best, value) if value == value else best
        if waited == PLATEAU_PATIENCE:
            rate, waited = rate * PLATEAU_FACTOR, 0
    return rate
