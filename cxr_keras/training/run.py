"""`train`: from a network's name to a finished run folder."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr_keras import plots
from cxr_keras.data import sampling
from cxr_keras.data.labels import LABELS
from cxr_keras.data.preparation import Prepared, prepare
from cxr_keras.errors import RunError
from cxr_keras.evaluation.evaluation import Evaluation, frame_of, predict_side, write_own_evaluation
from cxr_keras.metrics import assessment, per_label
from cxr_keras.metrics.thresholds import choose_thresholds
from cxr_keras.models.freezing import freeze
from cxr_keras.models.registry import RANDOM, build_model, get_spec
from cxr_keras.models.torch_kernels import keep_memory, native_kernels
from cxr_keras.runs import model_file, run_folder
from cxr_keras.runs.card import Card
from cxr_keras.runs.run_folder import (
    check_folder,
    check_same_data,
    clear_leftovers,
    hold_folder,
    open_folder,
    run_info,
)
from cxr_keras.training.callbacks import EpochSeed, ProgressLog, Recorder, StopOnNonFinite
from cxr_keras.training.config import TrainConfig
from cxr_keras.training.epoch_metrics import EpochMetrics
from cxr_keras.training.losses import check_loss, get_loss
from cxr_keras.training.optimizers import adam
from cxr_keras.training.trained_part import TrainedPart, trained_part
from cxr_keras.utils.console import notice, progress_bar


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: the run folder.
        history: history.csv.
        evaluation: of the test split.
        info: run.json.
    """

    folder: Path
    history: pd.DataFrame
    evaluation: Evaluation
    info: dict[str, Any]

    @property
    def metrics(self) -> pd.DataFrame:
        """The per-label table of the test split."""
        return self.evaluation.metrics


def train(
    model: str,
    data: str | Path | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    **settings: Any,
) -> Run:
    """Train a network, keep the weights of the best validation loss, evaluate on the test split.

    Args:
        model: a registered network, see `cxr-keras models`.
        data: a folder in NIH's layout; by default $CXR_KERAS_DATA, ./data/nih, or phantoms.
        overwrite: delete a run folder of the same name first.
        resume: go on with an interrupted run of the same name and settings.
        **settings: as in `TrainConfig`.

    Returns:
        The run: its folder, history, and the test split's evaluation.

    Raises:
        CxrError: a setting, the data or the run folder cannot be used.

    Example:
        >>> from cxr_keras import train
        >>> run = train("alexnet_custom", data="data/nih", epochs=30, lr=5e-4)
        >>> run.metrics.set_index("label").loc["Effusion", "auroc"]
    """
    config = TrainConfig(model=model, data=str(data) if data else None, **settings)
    folder = config.run_folder
    check_folder(folder, config.settings(), overwrite=overwrite, resume=resume)
    begun = time.time()
    keep_memory()
    keras.utils.set_random_seed(config.seed)
    check_loss(config.loss)
    network = _build(config)
    prepared = prepare(
        config.data, per_class=config.per_class, split=config.split, seed=config.seed
    )
    _say_sizes(prepared)
    open_folder(folder, overwrite=overwrite, resume=resume)
    with hold_folder(folder):
        return _train(network, config, prepared, resume=resume, begun=begun)


def _train(
    network: keras.Model, config: TrainConfig, prepared: Prepared, *, resume: bool, begun: float
) -> Run:
    """Everything that happens in the run folder."""
    folder = config.run_folder
    clear_leftovers(folder)
    info = run_info(config.settings(), prepared)
    if resume:
        check_same_data(folder, info)
    run_folder.write_run(folder, info)
    recorder = Recorder(
        folder / run_folder.HISTORY, folder / run_folder.CHECKPOINT, every=config.checkpoint_every
    )
    trained = time.time()
    part = trained_part(network, config, prepared)
    _fit(part, config, recorder, resume=resume)
    seconds = time.time() - trained
    return _finish(network, part, config, recorder, info, seconds=seconds, begun=begun)


def _build(config: TrainConfig) -> keras.Model:
    """The network with its weights, the right layers frozen; says how many parameters train."""
    spec = get_spec(config.model)
    weights = config.weights or spec.default_weights
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        network = build_model(config.model, weights, outputs=len(LABELS))
    finally:
        keras.config.set_dtype_policy(before)
    pretrained = weights != RANDOM
    count = freeze(network, spec, pretrained=pretrained, fine_tune=config.fine_tune)
    start = f"weights from {weights}" if pretrained else "random weights"
    notice(f"{config.model}: {start}, {count}.")
    return network


def _fit(part: TrainedPart, config: TrainConfig, recorder: Recorder, *, resume: bool) -> None:
    """Train in place and leave the best weights in the network.

    The network itself is never compiled, so its file names no optimizer.
    """
    model, batches = part.logits, part.batches
    model.compile(
        optimizer=_optimizer(config),
        loss=get_loss(config.loss, part.sides[sampling.TRAIN].truth),
        metrics=[EpochMetrics()],
    )
    done = 0
    if resume and recorder.checkpoint_file.exists():
        done = recorder.restore_checkpoint(model)
        notice(f"Resuming after epoch {done} of {config.epochs}.")
    if done < config.epochs:
        title, guard = f"Training {config.model}", StopOnNonFinite()
        steps = (config.epochs - done) * len(batches)
        with progress_bar(title, steps) as bar, native_kernels(model):
            model.fit(
                batches,
                validation_data=part.validation,
                epochs=config.epochs,
                initial_epoch=done,
                shuffle=False,
                verbose=0,
                callbacks=[
                    EpochSeed(batches, config.seed),
                    guard,
                    recorder,
                    ProgressLog(bar, config.epochs),
                ],
            )
        if guard.epoch is not None:
            _say_diverged(guard.epoch, config, recorder)
    if not recorder.best:
        raise RunError(
            f"No epoch of {config.run_folder} ended with a finite loss. Start again with "
            "--overwrite and a lower --lr."
        )
    recorder.restore_best(model)


def _optimizer(config: TrainConfig) -> keras.optimizers.Optimizer:
    """Adam, with loss scaling for float16, whose small gradients would vanish."""
    optimizer = adam(config.lr)
    if config.precision == "mixed_float16":
        # Keras adds it by the model's own policy, which the trained part of a network has not
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _say_diverged(epoch: int, config: TrainConfig, recorder: Recorder) -> None:
    """Say that the loss became NaN or infinite; stop here if there is no epoch to keep."""
    text = (
        f"The loss became NaN or infinite in epoch {epoch}, so training stops. "
        f"Try --lr {config.lr / 10:g} (it was {config.lr:g})"
    )
    if not recorder.best:
        raise RunError(f"{text}, with --overwrite; no epoch was finished before it.")
    notice(f"{text}. The best epoch before it is kept.")


def _finish(
    network: keras.Model,
    part: TrainedPart,
    config: TrainConfig,
    recorder: Recorder,
    info: dict[str, Any],
    *,
    seconds: float,
    begun: float,
) -> Run:
    """Write the model, the figures and the test split's tables; then drop the checkpoint."""
    folder, sides = config.run_folder, part.sides
    val = frame_of(sides[sampling.VAL], predict_side(part.probabilities, sides[sampling.VAL]))
    limits, sentences = choose_thresholds(*assessment.columns_of(val, LABELS), labels=LABELS)
    for sentence in sentences:
        notice(sentence)
    card = Card(
        thresholds=limits, data=info["data"], settings=info["settings"], notice=info["notice"]
    )
    model_file.save_model(
        network,
        card,
        folder / model_file.MODEL,
        trained_on=sides[sampling.TRAIN].rows["digest"],
        tuned_on=sides[sampling.VAL].rows["digest"],
    )
    assessment.write_table(val, folder / run_folder.VAL_PREDICTIONS)
    history = recorder.history_frame()
    figure = plots.loss_figure(history, title=folder.name, loss=config.loss, note=card.notice)
    plots.save_figure(figure, folder / run_folder.LOSS_PLOT)
    test = sides[sampling.TEST]
    tested = frame_of(test, predict_side(part.probabilities, test))
    evaluation = write_own_evaluation(tested, folder, card)
    finite = history[np.isfinite(history[["loss", "val_loss"]]).all(axis=1)]
    best = history.loc[finite["val_loss"].idxmin()]
    info |= {
        "status": "done",
        "diverged": not np.isfinite(history[["loss", "val_loss"]]).all(axis=None),
        "best_epoch": int(best["epoch"]),
        "loss": {
            "train": round(float(best["loss"]), 6),
            "val": round(float(best["val_loss"]), 6),
            "test": round(evaluation.loss, 6),
        },
        "thresholds": evaluation.assessment.thresholds,
        "test_averages": {
            measure: _rounded(per_label.average(evaluation.metrics, measure))
            for measure in per_label.MEASURES
        },
        "seconds": {"training": round(seconds, 1), "whole": round(time.time() - begun, 1)},
        "images_per_second": recorder.images_per_second(len(sides[sampling.TRAIN])),
    }
    run_folder.write_run(folder, info)
    recorder.checkpoint_file.unlink(missing_ok=True)
    return Run(folder, history, evaluation, info)


def _say_sizes(prepared: Prepared) -> None:
    shared = sampling.shared_patients(prepared.manifest)
    text = sampling.describe_sizes(prepared.manifest)
    notice(f"{len(prepared.manifest):,} images, {prepared.split_kind} split: {text}.")
    twins = sampling.shared_films(prepared.manifest)
    if twins:
        notice(f"{twins:,} films lie on two sides of the split under two names, pixel for pixel.")
    if any(shared.values()):
        pairs = ", ".join(f"{number} {pair}" for pair, number in shared.items())
        notice(
            f"This split shares patients ({pairs}), which flatters the result; "
            "--split patient does not."
        )


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
