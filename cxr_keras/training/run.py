"""`train`: from a network's name to a finished run folder."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr_keras import plots
from cxr_keras.data.labels import LABELS
from cxr_keras.data.options import SplitMethod
from cxr_keras.data.preparation import Prepared, prepare
from cxr_keras.data.splits import TEST, TRAIN, VAL, describe_sizes, shared_patients
from cxr_keras.errors import ModelError
from cxr_keras.evaluation.evaluation import Evaluation, frame_of, write_own_evaluation
from cxr_keras.evaluation.predictions import columns_of
from cxr_keras.inference.forward import forward_split
from cxr_keras.metrics import per_label
from cxr_keras.metrics.thresholds import choose_thresholds
from cxr_keras.models.freezing import count_trainable, freeze
from cxr_keras.models.registry import RANDOM, build_model, get_spec
from cxr_keras.models.user_built import with_logits
from cxr_keras.runs import model_file, run_folder
from cxr_keras.runs.card import Card
from cxr_keras.runs.opening import check_folder, check_same_data, training_folder
from cxr_keras.runs.run_folder import clear_leftovers, run_info
from cxr_keras.training.checkpoint import Recorder
from cxr_keras.training.config import TrainConfig, configure
from cxr_keras.training.determinism import check_deterministic, deterministic_torch
from cxr_keras.training.feature_cache import TrainedPart, trained_part
from cxr_keras.training.fitting import fit
from cxr_keras.training.own_start import OwnStart, listed, own_start
from cxr_keras.utils.arguments import PathLike, Real, Whole
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import write_table


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
    model: str | keras.Model,
    data: PathLike | None = None,
    *,
    epochs: Whole = TrainConfig.epochs,
    lr: Real = TrainConfig.lr,
    batch_size: Whole = TrainConfig.batch_size,
    loss: str = TrainConfig.loss,
    weights: PathLike | None = None,
    fine_tune: str | Whole | None = None,
    precision: str = TrainConfig.precision,
    split_method: SplitMethod = TrainConfig.split_method,
    per_class: Whole | None = TrainConfig.per_class,
    seed: Whole = TrainConfig.seed,
    data_seed: Whole = TrainConfig.data_seed,
    name: str | None = None,
    folder: PathLike = TrainConfig.folder,
    checkpoint_every: Whole | None = None,
    feature_cache: bool = TrainConfig.feature_cache,
    deterministic: bool = TrainConfig.deterministic,
    provenance: bool = TrainConfig.provenance,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    overwrite: bool = False,
    resume: bool = False,
) -> Run:
    """Train a network, keep the weights of the best validation loss, evaluate on the test split.

    Args:
        model: a registered network, see `cxr-keras models`; or a built `keras.Model`, raw grey
            pixels (N, 256, 256, 1) in 0…255 → (N, 15) sigmoids, which is trained in place, as far
            as its layers are trainable.
        data: a folder in NIH's layout; by default $CXR_KERAS_DATA, ./data/nih, or phantoms.
        epochs: passes over the training split.
        lr: learning rate of Adam.
        batch_size: images in a step.
        loss: one of `cxr_keras.training.losses.LOSSES`.
        weights: "imagenet", "none", a torchvision `.pth`, or a run folder or `.keras` file of the
            same network, whose head is kept where it predicts the same labels; by default
            "imagenet" where the network has such weights. Not for a built model.
        fine_tune: of pretrained weights: None trains the head alone, a number the last blocks
            too, "all" everything. Not for a built model.
        precision: "float32", "mixed_bfloat16" or "mixed_float16". Not for a built model.
        split_method: "patient" (no patient in two splits), "paper" (by image, as the report) or
            "official" (NIH's lists).
        per_class: images chosen for each label; by default 300, or every image for the official
            split.
        seed: of the weights, dropout and the batches.
        data_seed: of the choice of images and the split. Runs of other seeds share a test split.
        name: of the run folder; by default <model>-ep<epochs>-lr<lr> and a short word for each of
            loss, seeds, split method, weights and fine-tuning that is not the default, as in
            resnet18-ep30-lr0.0005-focal-seed7.
        folder: where run folders lie.
        checkpoint_every: epochs between checkpoints; by default as often as costs 5% of the time.
        feature_cache: run the frozen part of a network once per image, not once per epoch.
        deterministic: the same seed gives the same weights on a CUDA GPU too, at the cost of speed;
            on a CPU it does anyway. Torch only, whose switches are set and put back.
        provenance: list the images of training and validation in model.keras, as salted digests
            (see docs/model_file.md), so that no network is measured on what it was trained on.
        callbacks: Keras callbacks, run after this program's own. Their `model` is the part that
            trains, whose outputs are logits.
        overwrite: replace a run folder of the same name when this run is done; until then, the
            new one is written beside it.
        resume: go on with an interrupted run of the same name and settings.

    Returns:
        The run: its folder, history, and the test split's evaluation.

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
    config = configure(
        model=model if isinstance(model, str) else model.name,
        data=data,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        loss=loss,
        weights=weights,
        fine_tune=fine_tune,
        precision=precision,
        split_method=split_method,
        per_class=per_class,
        seed=seed,
        data_seed=data_seed,
        name=name,
        folder=folder,
        checkpoint_every=checkpoint_every,
        feature_cache=feature_cache,
        deterministic=deterministic,
        provenance=provenance,
    )
    folder = config.run_folder
    check_deterministic(config.deterministic)
    check_folder(folder, config.settings(), overwrite=overwrite, resume=resume)
    begun = time.time()
    keras.utils.set_random_seed(config.seed)
    start = own_start(config, resume=resume) if isinstance(model, str) else None
    network = _build(config, start) if isinstance(model, str) else _as_given(model, config)
    prepared = prepare(
        config.data,
        per_class=config.per_class,
        split_method=config.split_method,
        seed=config.data_seed,
    )
    _say_sizes(prepared)
    if start:
        start.say_seen(prepared)
    with (
        training_folder(folder, overwrite=overwrite, resume=resume) as place,
        deterministic_torch(config.deterministic),
    ):
        run = _train(place, network, config, prepared, callbacks, start, resume=resume, begun=begun)
    evaluation = dataclasses.replace(run.evaluation, folder=folder)
    return dataclasses.replace(run, folder=folder, evaluation=evaluation)


def _train(
    folder: Path,
    network: keras.Model,
    config: TrainConfig,
    prepared: Prepared,
    callbacks: Sequence[keras.callbacks.Callback],
    start: OwnStart | None,
    *,
    resume: bool,
    begun: float,
) -> Run:
    """Everything that happens in the run folder, or in one that will take its place."""
    clear_leftovers(folder)
    info = run_info(config.settings(), prepared)
    if resume:
        check_same_data(folder, info)
    run_folder.write_run(folder, info)
    start = start and start.kept_in(folder)
    recorder = Recorder(
        folder / run_folder.HISTORY, folder / run_folder.CHECKPOINT, every=config.checkpoint_every
    )
    trained = time.time()
    part = trained_part(network, config, prepared)
    fit(part, config, recorder, callbacks, resume=resume)
    seconds = time.time() - trained
    return _finish(
        folder, network, part, config, recorder, info, start, seconds=seconds, begun=begun
    )


def _build(config: TrainConfig, start: OwnStart | None) -> keras.Model:
    """The network with its weights, the right layers frozen; says how many parameters train."""
    spec = get_spec(config.model)
    weights = config.weights or spec.default_weights
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        network = build_model(config.model, RANDOM if start else weights, outputs=len(LABELS))
    finally:
        keras.config.set_dtype_policy(before)
    if start:
        start.put_into(network, LABELS)
    pretrained = weights != RANDOM
    count = freeze(network, spec, pretrained=pretrained, fine_tune=config.fine_tune)
    origin = f"weights from {weights}" if pretrained else "random weights"
    notice(f"{config.model}: {origin}, {count}.")
    return network


def _as_given(model: keras.Model, config: TrainConfig) -> keras.Model:
    """A network that the user built, with a layer of logits."""
    for name in ("weights", "fine_tune"):
        if getattr(config, name) is not None:
            raise ModelError(
                f"{name} chooses the weights of a network that is built by its name; a built "
                f"model has its own. Leave {name} out, or give a name in place of the model."
            )
    network = with_logits(model, len(LABELS))
    notice(f"{config.model}: a built model, {count_trainable(network)}.")
    return network


def _finish(
    folder: Path,
    network: keras.Model,
    part: TrainedPart,
    config: TrainConfig,
    recorder: Recorder,
    info: dict[str, Any],
    start: OwnStart | None,
    *,
    seconds: float,
    begun: float,
) -> Run:
    """Write the model, the figures and the test split's tables; then drop the checkpoint."""
    splits = part.splits
    val = frame_of(splits[VAL], forward_split(part.probabilities, splits[VAL]))
    limits, sentences = choose_thresholds(*columns_of(val, LABELS), labels=LABELS)
    for sentence in sentences:
        notice(sentence)
    settings = info["settings"] | ({"weights": start.name} if start else {})
    card = Card(thresholds=limits, data=info["data"], settings=settings, notice=info["notice"])
    told = config.provenance
    model_file.save_model(
        network,
        card,
        folder / model_file.MODEL,
        trained_on=listed(model_file.TRAINED_ON, splits[TRAIN], start) if told else None,
        tuned_on=listed(model_file.TUNED_ON, splits[VAL], start) if told else None,
    )
    write_table(val, folder / run_folder.VAL_PREDICTIONS)
    history = recorder.history_frame()
    figure = plots.loss_figure(
        history, title=config.run_folder.name, loss=config.loss, note=card.notice
    )
    plots.save_figure(figure, folder / run_folder.LOSS_PLOT)
    test = splits[TEST]
    tested = frame_of(test, forward_split(part.probabilities, test))
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
        "images_per_second": recorder.images_per_second(len(splits[TRAIN])),
    }
    run_folder.write_run(folder, info)
    for leftover in (recorder.checkpoint_file, folder / run_folder.STARTED_FROM):
        leftover.unlink(missing_ok=True)
    return Run(folder, history, evaluation, info)


def _say_sizes(prepared: Prepared) -> None:
    shared = shared_patients(prepared.manifest)
    text = describe_sizes(prepared.manifest)
    notice(f"{len(prepared.manifest):,} images, {prepared.split_method} split: {text}.")
    if any(shared.values()):
        pairs = ", ".join(f"{number} {pair}" for pair, number in shared.items())
        notice(
            f"This split shares patients ({pairs}), which flatters the result; "
            "--split-method patient does not."
        )


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
