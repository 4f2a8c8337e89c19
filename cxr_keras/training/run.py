"""`train`: from a network's name to a finished run folder."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, cast

import keras
import numpy as np
import pandas as pd

from cxr_keras import plots
from cxr_keras.data.preparation import Prepared
from cxr_keras.data.reading import Data
from cxr_keras.data.splits import TEST, TRAIN, VAL
from cxr_keras.errors import RunError
from cxr_keras.evaluation.predictions import columns_of
from cxr_keras.evaluation.result import Evaluation, averages_of, frame_of, write_own_evaluation
from cxr_keras.inference.forward import forward_split
from cxr_keras.inference.guarded import make_guard
from cxr_keras.metrics.thresholds import choose_thresholds
from cxr_keras.models.precision import FLOAT32, set_precision
from cxr_keras.runs import model_file, run_folder
from cxr_keras.runs.card import Card
from cxr_keras.runs.opening import check_folder, check_same_data, training_folder
from cxr_keras.runs.run_folder import clear_leftovers, run_info
from cxr_keras.training.attention import check_boxes
from cxr_keras.training.building import (
    build_network,
    complete_config,
    prepare_images,
    read_images,
)
from cxr_keras.training.checkpoint import Recorder
from cxr_keras.training.config import TrainConfig
from cxr_keras.training.denormals import denormals_flushed
from cxr_keras.training.determinism import check_deterministic, deterministic_torch
from cxr_keras.training.feature_cache import TrainedPart, trained_part
from cxr_keras.training.fitting import fit
from cxr_keras.training.options import Settings
from cxr_keras.training.own_start import OwnStart, listed, own_start
from cxr_keras.training.processes import Team, team
from cxr_keras.training.watching import check_logs, watched
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import write_table


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: the run folder.
        history: history.csv.
        evaluation: of the test split; of the validation split, which flatters, where `test_share`
            is 0.
        info: run.json.
    """

    folder: Path
    history: pd.DataFrame
    evaluation: Evaluation
    info: dict[str, Any]

    @property
    def metrics(self) -> pd.DataFrame:
        """The per-label table of the test split, or of validation where there is no test split."""
        return self.evaluation.metrics


def train(
    model: str | keras.Model,
    data: Data | None = None,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    log: Sequence[str] = (),
    overwrite: bool = False,
    resume: bool = False,
    **settings: Unpack[Settings],
) -> Run:
    """Train a network, keep the weights of its best epoch, evaluate on the test split.

    Args:
        model: a registered network, see `cxr-keras models`; or a built `keras.Model`, raw grey
            pixels (N, side, side, 1) in 0…255 → (N, n_labels) sigmoids, which is trained in place,
            as far as its layers are trainable.
        data: a data folder in a known layout (docs/datasets.md), a `Dataset`, or several of them;
            by default $CXR_KERAS_DATA, ./data/nih, or phantoms.
        callbacks: Keras callbacks, run after this program's own. Their `model` is the part that
            trains, whose outputs are logits.
        log: "csv", "tensorboard", "mlflow" or several: write learning rate, losses, AUROC, images/s
            and, but for csv, some heat maps of every epoch (see `watching`).
        overwrite: replace a run folder of the same name when this run is done; until then, the
            new one is written beside it.
        resume: go on with an interrupted run of the same name and settings.
        **settings: `recipe`, "report" or "modern" (by default the network's own), and whatever is
            to differ from it: `epochs`, `lr`, `loss`, `augment`, `seed` and all else that
            `cxr_keras.training.config.TrainConfig` names. None is the recipe's. And how data is
            read: `uncertain`, `views`, `labels`, `table` and all else that
            `cxr_keras.data.reading.Reading` names.

    Returns:
        The run: its folder, history, and the test split's evaluation (see `Run`).

    Raises:
        CxrError: a setting, the data or the run folder cannot be used.

    Example:
        >>> from cxr_keras import train
        >>> run = train("resnet_custom", data="data/nih", epochs=2, lr=5e-4)
        >>> run.folder.name
        'resnet_custom-ep2-lr0.0005'
        >>> auroc = run.metrics.set_index("label")["auroc"]  # of the test split
        >>> run.history["epoch"].tolist()
        [1, 2]
    """
    config = complete_config(model, {"data": data, **settings})
    check_deterministic(config.deterministic)
    check_logs(log)
    with denormals_flushed(), team() as processes:
        return _train_together(
            model, config, callbacks, log, processes, overwrite=overwrite, resume=resume
        )


def _train_together(
    model: str | keras.Model,
    config: TrainConfig,
    callbacks: Sequence[keras.callbacks.Callback],
    log: Sequence[str],
    processes: Team,
    *,
    overwrite: bool,
    resume: bool,
) -> Run:
    """What every process of a training does; the first of them alone writes and says anything."""
    _check_processes(config, processes)
    folder = config.run_folder
    if processes.is_first:
        check_folder(folder, config.settings(), overwrite=overwrite, resume=resume)
    processes.shared(None)  # the others begin when nothing is refused
    begun = time.time()
    keras.utils.set_random_seed(config.seed)
    start = own_start(config, resume=resume) if isinstance(model, str) else None
    dataset = processes.in_turn(lambda: read_images(config))
    network = build_network(model, config, start, dataset.labels)
    prepared = processes.in_turn(lambda: prepare_images(config, dataset))
    if start:
        start.say_seen(prepared)
    check_boxes(network, prepared.split(TRAIN), config)
    with (
        _place(folder, processes, overwrite=overwrite, resume=resume) as place,
        deterministic_torch(config.deterministic),
    ):
        run = _train(
            place,
            network,
            config,
            prepared,
            callbacks,
            log,
            start,
            processes,
            resume=resume,
            begun=begun,
        )
    tables = folder / run.evaluation.folder.relative_to(place)
    evaluation = dataclasses.replace(run.evaluation, folder=tables)
    return dataclasses.replace(run, folder=folder, evaluation=evaluation)


@contextmanager
def _place(folder: Path, processes: Team, *, overwrite: bool, resume: bool) -> Iterator[Path]:
    """Where the run's files go, held by the first process."""
    if not processes.is_first:
        yield processes.shared(folder)
        return
    with training_folder(folder, overwrite=overwrite, resume=resume) as place:
        yield processes.shared(place)


def _check_processes(config: TrainConfig, processes: Team) -> None:
    if config.batch_size < processes.size:
        raise RunError(
            f"A batch of {config.batch_size} images is not enough for {processes.size} processes. "
            "Give a larger --batch-size, which counts all of them, or start fewer."
        )
    if config.boxes and processes.size > 1:
        raise RunError("--boxes trains in one process. Start one, or leave --boxes out.")


def _train(
    folder: Path,
    network: keras.Model,
    config: TrainConfig,
    prepared: Prepared,
    callbacks: Sequence[keras.callbacks.Callback],
    log: Sequence[str],
    start: OwnStart | None,
    processes: Team,
    *,
    resume: bool,
    begun: float,
) -> Run:
    """Everything that happens in the run folder, or in one that will take its place."""
    info = run_info(config.settings(), prepared)
    if processes.is_first:
        clear_leftovers(folder)
        if resume:
            check_same_data(folder, info)
        run_folder.write_run(folder, info)
        start = start and start.kept_in(folder)
    processes.shared(None)
    recorder = Recorder(
        folder / run_folder.HISTORY,
        folder / run_folder.CHECKPOINT,
        monitor=config.monitor,
        patience=config.early_stop,
        every=config.checkpoint_every,
        writes=processes.is_first,
    )
    trained = time.time()
    part = trained_part(network, config, prepared, processes)
    log = log if processes.is_first else ()
    with watched(log, folder, config.settings(), network, prepared) as watch:
        fit(part, config, recorder, [*callbacks, *watch], resume=resume, team=processes)
    seconds = time.time() - trained
    run = None
    if processes.is_first:
        info["processes"] = processes.size
        run = _finish(
            folder,
            network,
            part,
            prepared,
            config,
            recorder,
            info,
            start,
            seconds=seconds,
            begun=begun,
        )
    return cast(Run, processes.shared(run))


def _finish(
    folder: Path,
    network: keras.Model,
    part: TrainedPart,
    prepared: Prepared,
    config: TrainConfig,
    recorder: Recorder,
    info: dict[str, Any],
    start: OwnStart | None,
    *,
    seconds: float,
    begun: float,
) -> Run:
    """Write the model, the figures and the tables; then drop the checkpoint."""
    probabilities, splits = part.probabilities, dict(part.splits)
    if config.precision != FLOAT32:  # the file computes in float32, and so do its tables
        set_precision(network, FLOAT32)
        probabilities, splits = network, {name: prepared.split(name) for name in splits}
    val = frame_of(splits[VAL], forward_split(probabilities, splits[VAL]), part.labels.names)
    names = part.labels.names
    limits, sentences = choose_thresholds(*columns_of(val, names), labels=names)
    for sentence in sentences:
        notice(sentence)
    settings = info["settings"] | ({"weights": start.name} if start else {})
    card = Card(
        labels=names,
        normal=part.labels.normal,
        thresholds=limits,
        data=info["data"],
        settings=settings,
        notice=info["notice"],
    )
    told = config.provenance
    guard = make_guard(network, prepared.split(TRAIN), prepared.split(VAL))
    model_file.save_model(
        network,
        card,
        folder / model_file.MODEL,
        trained_on=listed(model_file.TRAINED_ON, splits[TRAIN], start) if told else None,
        tuned_on=listed(model_file.TUNED_ON, splits[VAL], start) if told else None,
        guard=None if guard is None else guard.to_bytes(),
    )
    write_table(val, folder / run_folder.VAL_PREDICTIONS)
    history = recorder.history_frame()
    figure = plots.loss_figure(
        history,
        kept=recorder.best_epoch,
        title=config.run_folder.name,
        loss=config.loss,
        note=card.notice,
    )
    plots.save_figure(figure, folder / run_folder.LOSS_PLOT)
    tested, measured = card.measured_split == TEST, val
    if tested:
        probability = forward_split(probabilities, splits[TEST])
        measured = frame_of(splits[TEST], probability, names)
    evaluation = write_own_evaluation(measured, folder, card)
    best = history.iloc[recorder.best_epoch - 1]
    info |= {
        "status": "done",
        "diverged": not np.isfinite(history[["loss", "val_loss"]]).all(axis=None),
        "best_epoch": int(best["epoch"]),
        "loss": {
            "train": round(float(best["loss"]), 6),
            "val": round(float(best["val_loss"]), 6),
            "test": round(evaluation.loss, 6) if tested else None,
        },
        "thresholds": evaluation.assessment.thresholds,
        **averages_of(val, evaluation, card),
        "seconds": {"training": round(seconds, 1), "whole": round(time.time() - begun, 1)},
        "images_per_second": recorder.images_per_second(len(splits[TRAIN])),
    }
    run_folder.write_run(folder, info)
    for leftover in (recorder.checkpoint_file, folder / run_folder.STARTED_FROM):
        leftover.unlink(missing_ok=True)
    return Run(folder, history, evaluation, info)
