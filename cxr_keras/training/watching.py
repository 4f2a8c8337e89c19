"""Watching a training: numbers and pictures of every epoch, for TensorBoard, MLflow or a CSV."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import pandas as pd

from cxr_keras import plots
from cxr_keras.data.preparation import Prepared, PreparedSplit
from cxr_keras.data.splits import TRAIN, VAL
from cxr_keras.errors import CxrError, ModelError
from cxr_keras.inference.heat_maps import HeatMaps, MeanMaps, heat_maps
from cxr_keras.training.options import LOGS
from cxr_keras.utils.files import write_table

CSV, TENSORBOARD = "log.csv", "tensorboard"  # in the run folder
EXPERIMENT = "cxr-keras"  # in MLflow
SHOWN = 4  # images of validation, one for each of so many findings
_PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow"}  # log → package, and extra


class Log(Protocol):
    """Where numbers and pictures of epochs, counted from 1, go.

    Attributes:
        pictures: whether it holds any, or they need not be drawn.
    """

    pictures: bool

    def numbers(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write an epoch's numbers."""

    def picture(self, epoch: int, pixels: np.ndarray) -> None:
        """Write its picture: uint8 (h, w, 3)."""

    def close(self, failed: bool) -> None:
        """Nothing more comes, because the training is done or has failed."""


class CsvLog:
    """A row an epoch in the run folder's log.csv; it holds no pictures."""

    pictures = False

    def __init__(self, folder: Path, done: int):
        self._file = folder / CSV
        self._rows: list[dict[str, float]] = []
        if done and self._file.is_file():
            kept = pd.read_csv(self._file)
            self._rows = kept[kept["epoch"] <= done].to_dict("records")

    def numbers(self, epoch: int, values: Mapping[str, float]) -> None:
        """See `Log`."""
        self._rows.append({"epoch": epoch, **values})
        write_table(pd.DataFrame(self._rows), self._file)

    def picture(self, epoch: int, pixels: np.ndarray) -> None:
        """A table holds none."""

    def close(self, failed: bool) -> None:
        """Every epoch is written already."""


class TensorBoardLog:
    """Events in the run folder, by torch's writer, which needs no TensorFlow."""

    pictures = True

    def __init__(self, folder: Path, done: int):
        from torch.utils.tensorboard import SummaryWriter

        # on a resumed run, what a killed one wrote of later epochs is not shown
        purge = {"purge_step": done + 1} if done else {}
        self._writer = SummaryWriter(str(folder / TENSORBOARD), **purge)

    def numbers(self, epoch: int, values: Mapping[str, float]) -> None:
        """See `Log`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def picture(self, epoch: int, pixels: np.ndarray) -> None:
        """See `Log`."""
        self._writer.add_image("heat maps", pixels, epoch, dataformats="HWC")

    def close(self, failed: bool) -> None:
        """See `Log`."""
        self._writer.close()


class MlflowLog:
    """A run of MLflow's, at $MLFLOW_TRACKING_URI or where MLflow writes by default."""

    pictures = True

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment(EXPERIMENT)
        mlflow.start_run(run_name=folder.name)
        mlflow.log_params(dict(settings))

    def numbers(self, epoch: int, values: Mapping[str, float]) -> None:
        """See `Log`."""
        self._mlflow.log_metrics(dict(values), step=epoch)

    def picture(self, epoch: int, pixels: np.ndarray) -> None:
        """See `Log`."""
        self._mlflow.log_image(pixels, f"heat_maps/epoch_{epoch:03}.png")

    def close(self, failed: bool) -> None:
        """See `Log`."""
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


class Watch(keras.callbacks.Callback):
    """Tells logs the learning rate, losses, AUROC and images/s of each epoch, and shows heat maps.

    Args:
        opener: opens where it all goes, given how many epochs are done already.
        network: whose heat maps are shown, as its weights are at the end of the epoch.
        val: the validation split, of which some images are shown.
        labels: names of the network's outputs.
        images: how many are trained on in an epoch.
    """

    def __init__(
        self,
        opener: Callable[[int], list[Log]],
        network: keras.Model,
        val: PreparedSplit,
        labels: Sequence[str],
        images: int,
    ):
        super().__init__()
        self._opener, self._logs = opener, list[Log]()
        self._explainer, self._labels, self._images = _explainer(network), labels, images
        self._shown = examples(val.truth)
        rows = [row for row, _ in self._shown]
        self._pixels = val.batch(np.array(rows))[..., 0] if rows else None
        self._begun = self._trained = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if not self._logs:
            self._logs = self._opener(epoch)
        self._begun = self._trained = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._trained = time.monotonic()  # what comes after the last batch is no training

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        seconds = max(self._trained - self._begun, 1e-6)
        values = {name: float(value) for name, value in (logs or {}).items()}
        values |= {"learning_rate": rate, "images_per_second": self._images / seconds}
        picture = self._picture() if any(log.pictures for log in self._logs) else None
        for log in self._logs:
            log.numbers(epoch + 1, values)
            if picture is not None and log.pictures:
                log.picture(epoch + 1, picture)

    def close(self, failed: bool) -> None:
        """Close the logs."""
        for log in self._logs:
            log.close(failed)
        self._logs = []

    def _picture(self) -> np.ndarray | None:
        """The images side by side with their heat maps; None where there are none to show."""
        if self._pixels is None or self._explainer is None:
            return None
        pairs = [(place, label) for place, (_, label) in enumerate(self._shown)]
        maps = self._explainer.maps(self._pixels, pairs)
        names = [self._labels[label] for _, label in self._shown]
        no_boxes: list[list[Any]] = [[]] * len(maps)
        shown = list(zip(self._pixels, maps, no_boxes, names, strict=True))
        return plots.pixels_of(plots.sheet_figure(shown))


@contextmanager
def watched(
    names: Sequence[str],
    folder: Path,
    settings: Mapping[str, Any],
    network: keras.Model,
    prepared: Prepared,
) -> Iterator[list[Watch]]:
    """Watch a training for the body's duration; its logs are closed however that ends.

    Args:
        names: of `LOGS`; without any there is no callback.
        folder: of the run.
        settings: of the training.
        network: that is trained.
        prepared: what it is trained on.
    """
    if not names:
        yield []
        return
    opener = partial(open_logs, names, folder, settings)
    labels, count = prepared.labels.names, len(prepared.split(TRAIN))
    watch = Watch(opener, network, prepared.split(VAL), labels, count)
    failed = True
    try:
        yield [watch]
        failed = False
    finally:
        watch.close(failed)


def _explainer(network: keras.Model) -> HeatMaps | MeanMaps | None:
    """What makes its heat maps; None for a network without layers of maps."""
    try:
        return heat_maps(network)
    except ModelError:
        return None


def examples(truth: np.ndarray) -> list[tuple[int, int]]:
    """(image, label) pairs to show: the first image of each of the most frequent labels.

    Args:
        truth: (n, labels) of 1, 0 and NaN (not known).
    """
    known = np.nan_to_num(truth)
    common = np.argsort(-known.sum(axis=0), kind="stable")[:SHOWN]
    return [
        (int(known[:, label].argmax()), int(label)) for label in common if known[:, label].any()
    ]


def check_logs(logs: Sequence[str]) -> None:
    """Stop before the work if a log is none, or its extra is not installed.

    Raises:
        CxrError: so it is.
    """
    for log in logs:
        if log not in LOGS:
            raise CxrError(f"There is no log {log!r}. Choose from: {', '.join(LOGS)}.")
        package = _PACKAGES.get(log)
        if package and find_spec(package) is None:
            raise CxrError(f'--log {log} needs the extra {log}: pip install "cxr-keras[{log}]".')


def open_logs(
    names: Sequence[str], folder: Path, settings: Mapping[str, Any], done: int
) -> list[Log]:
    """Open logs of a run.

    Args:
        names: of `LOGS`.
        folder: of the run.
        settings: of the training.
        done: epochs that are done already, of a resumed run.
    """
    made: list[Log] = []
    for name in dict.fromkeys(names):
        if name == "csv":
            made.append(CsvLog(folder, done))
        elif name == "tensorboard":
            made.append(TensorBoardLog(folder, done))
        else:
            made.append(MlflowLog(folder, settings))
    return made
