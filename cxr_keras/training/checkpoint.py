"""What a run remembers while it trains: history, best weights, and the checkpoint to go on from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr_keras.errors import RunError
from cxr_keras.utils.files import atomic_file

LOGGED = ("loss", "precision", "recall", "auc")
HISTORY_COLUMNS = (
    "epoch",
    "loss",
    "val_loss",
    *LOGGED[1:],
    *(f"val_{name}" for name in (*LOGGED[1:], "auroc", "ap")),
)
CHECKPOINT_SHARE = 0.05  # of the training time that writing checkpoints may take
_DISK_SPEED = 300e6  # bytes a second, a guess until the first checkpoint is timed

Arrays = list[np.ndarray]


class Recorder(keras.callbacks.Callback):
    """Keeps the history and the best weights, writes history.csv, and the checkpoint in time.

    The best weights are copies in memory: AlexNet's are 228 MB, and writing them at every better
    epoch costs more than the epoch does. The checkpoint holds all that `--resume` needs; it is
    written every `every` epochs, or else when it costs at most 5% of the time since the last one.

    Attributes:
        history: a dict an epoch, keys as in `HISTORY_COLUMNS` and "seconds".
        best: `changing_variables` of the model after its best epoch.
        averaged: the same of the averaged weights after this epoch; None where none are averaged.
        training_seconds: of each epoch without its validation.

    Args:
        history_file: history.csv.
        checkpoint_file: what `--resume` reads.
        monitor: the column of the history that says which epoch is best.
        patience: epochs without a better one after which training ends; 0 for never.
        every: epochs between checkpoints; None for what costs 5% of the time.
        writes: whether this process writes the files; of several one does.
    """

    def __init__(
        self,
        history_file: Path,
        checkpoint_file: Path,
        *,
        monitor: str = "val_loss",
        patience: int = 0,
        every: int | None = None,
        writes: bool = True,
    ):
        super().__init__()
        self.writes = writes
        self.history_file, self.checkpoint_file = history_file, checkpoint_file
        self.monitor, self.patience, self.every = monitor, patience, every
        self.history: list[dict[str, float]] = []
        self.best: Arrays = []
        self.averaged: Arrays | None = None
        self.training_seconds: list[float] = []
        self._epoch_begun = self._saved_at = time.monotonic()
        self._save_cost: float | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch_begun = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        row = {name: float(logs[name]) for name in HISTORY_COLUMNS[1:]}
        seconds = round(time.monotonic() - self._epoch_begun, 2)
        self.history.append({"epoch": epoch + 1, **row, "seconds": seconds})
        finite = math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])
        if self.best_epoch == len(self.history):
            if self.averaged is not None:
                self.best = [np.array(value) for value in self.averaged]
            else:
                self.best = snapshot(changing_variables(self.model), into=self.best)
        if self.writes:
            with atomic_file(self.history_file) as temporary:
                self.history_frame().to_csv(temporary, index=False)
            if finite and self._worth_saving():
                self.save_checkpoint()
        if self.has_waited:
            self.model.stop_training = True

    @property
    def values(self) -> list[float]:
        """The monitored value of each epoch, turned so that higher is better."""
        sign = -1.0 if self.monitor == "val_loss" else 1.0
        return [
            sign * row[self.monitor]
            if math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])
            else math.nan
            for row in self.history
        ]

    @property
    def best_epoch(self) -> int:
        """The first epoch, from 1, that no other is better than; 0 if there is none."""
        values = np.array(self.values)
        return int(np.nanargmax(values)) + 1 if np.isfinite(values).any() else 0

    @property
    def has_waited(self) -> bool:
        """Whether the epochs since the best one have used the patience up."""
        return 0 < self.patience <= len(self.history) - self.best_epoch

    def history_frame(self) -> pd.DataFrame:
        """The history as history.csv holds it."""
        return pd.DataFrame(self.history, columns=[*HISTORY_COLUMNS, "seconds"])

    def save_checkpoint(self) -> None:
        """Write everything that the next epoch depends on."""
        begun = time.monotonic()
        state = {
            "history": self.history,
            "backend": keras.backend.backend(),
        }
        arrays = {"state": np.array(json.dumps(state))}
        groups = {
            "model": snapshot(changing_variables(self.model)),
            "optimizer": snapshot(self.model.optimizer.variables),
            "best": self.best,
        }
        for group, values in groups.items():
            arrays |= {f"{group}/{i}": value for i, value in enumerate(values)}
        with atomic_file(self.checkpoint_file) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        self._saved_at = time.monotonic()
        self._save_cost = self._saved_at - begun

    def restore_checkpoint(self, model: keras.Model) -> int:
        """Put the checkpoint's state into a compiled `model`; returns the epochs done.

        Raises:
            RunError: it was written on another backend, which draws other dropout.
        """
        with np.load(self.checkpoint_file, allow_pickle=False) as file:
            state = json.loads(str(file["state"]))
            backend = state.get("backend", "torch")
            if backend != keras.backend.backend():
                raise RunError(
                    f"{self.checkpoint_file.parent} was begun with KERAS_BACKEND={backend}, and it "
                    f"is {keras.backend.backend()} now. Go on with the same, or give --overwrite."
                )
            self.history = state["history"]
            assign(changing_variables(model), lambda i: file[f"model/{i}"])
            model.optimizer.build(model.trainable_variables)
            assign(model.optimizer.variables, lambda i: file[f"optimizer/{i}"])
            count = sum(name.startswith("best/") for name in file.files)
            self.best = [file[f"best/{i}"] for i in range(count)]
        return len(self.history)

    def restore_best(self, model: keras.Model) -> None:
        """Put the best weights into `model`."""
        assign(changing_variables(model), lambda place: self.best[place])

    def images_per_second(self, images: int) -> float | None:
        """Training speed without validation; a first epoch of several is left out as warm-up."""
        seconds = self.training_seconds[1:] or self.training_seconds
        return round(images * len(seconds) / sum(seconds), 2) if seconds else None

    def _worth_saving(self) -> bool:
        if self.every is not None:
            return len(self.history) % self.every == 0
        cost = self._save_cost
        if cost is None:
            size = sum(value.nbytes for value in self.best)
            cost = 4 * size / _DISK_SPEED  # weights, two moments, best weights
        return time.monotonic() - self._saved_at >= cost / CHECKPOINT_SHARE


def changing_variables(model: keras.Model) -> list[Any]:
    """Variables that training may change: those of trainable layers, and states of random ones.

    Frozen weights are left out, so that a frozen AlexNet's 228 MB are not copied at every better
    epoch.
    """
    return [
        variable
        for layer in model.layers
        if layer.trainable or not layer.weights
        for variable in layer.variables
    ]


def snapshot(variables: list[Any], into: Arrays | None = None) -> Arrays:
    """Copies of variables' values as numpy arrays, reusing the arrays of `into`."""
    values = [keras.ops.convert_to_numpy(variable.value) for variable in variables]
    if not into:
        return [np.array(value) for value in values]
    for old, value in zip(into, values, strict=True):
        np.copyto(old, value)
    return into


def assign(variables: list[Any], value_of: Callable[[int], np.ndarray]) -> None:
    """Set each variable to `value_of` its place."""
    for place, variable in enumerate(variables):
        variable.assign(value_of(place))
