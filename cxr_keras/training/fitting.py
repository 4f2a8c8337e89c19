"""Keras's `fit` on the part of a network that trains, with this program's callbacks."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from cxr_keras.data.splits import TRAIN, VAL
from cxr_keras.errors import CxrError, RunError
from cxr_keras.models.torch_kernels import native_kernels
from cxr_keras.training.attention import Batches, with_attention
from cxr_keras.training.callbacks import EpochSeed, OneNetwork, ProgressLog, StopOnNonFinite
from cxr_keras.training.checkpoint import Recorder
from cxr_keras.training.config import TrainConfig
from cxr_keras.training.epoch_metrics import EpochMetrics
from cxr_keras.training.feature_cache import TrainedPart
from cxr_keras.training.gradients import averaged_gradients
from cxr_keras.training.losses import get_loss
from cxr_keras.training.optimizers import make_optimizer
from cxr_keras.training.processes import ALONE, Team
from cxr_keras.training.rates import body_rates
from cxr_keras.training.schedules import Plateau, learning_rate
from cxr_keras.training.validation import Validation, check_monitor
from cxr_keras.utils.console import notice, progress_bar
from cxr_keras.utils.interrupts import interrupts_kept


def fit(
    part: TrainedPart,
    config: TrainConfig,
    recorder: Recorder,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    resume: bool,
    team: Team = ALONE,
) -> None:
    """Train in place and leave the best weights in the network.

    The network itself is never compiled, so its file names no optimizer.
    """
    model: keras.Model = part.logits
    batches: Batches = part.batches
    if config.boxes:
        model, batches = with_attention(part.logits, part.batches, config)
    train, val = part.splits[TRAIN], part.splits[VAL]
    findings = np.array([name != part.labels.normal for name in part.labels.names])
    check_monitor(config.monitor, val.truth, findings)
    unknown = any(np.isnan(split.truth).any() for split in (train, val))
    model.compile(
        optimizer=_optimizer(part, config),
        loss=get_loss(config.loss, train.truth, masked=unknown),
        metrics=[EpochMetrics(len(part.labels))],
    )
    done = 0
    if resume and recorder.checkpoint_file.exists():
        done = recorder.restore_checkpoint(model)
        notice(f"Resuming after epoch {done} of {config.epochs}.")
    if done < config.epochs and not recorder.has_waited:
        title, guard = f"Training {config.model}", StopOnNonFinite(team)
        steps = (config.epochs - done) * len(batches)
        averaging = batches if config.ema else None
        plateau = [Plateau(config.lr, lambda: recorder.values)]
        together = team.batch_sum if config.sync_batch_norm and team.size > 1 else None
        with (
            progress_bar(title, steps) as bar,
            interrupts_kept() as check,
            native_kernels(model, together),
            averaged_gradients(model.optimizer, model.trainable_variables, team),
        ):
            model.fit(
                batches,
                epochs=config.epochs,
                initial_epoch=done,
                shuffle=False,
                verbose=0,
                callbacks=[
                    EpochSeed(batches, config.seed, team),
                    *(plateau if config.schedule == "plateau" else []),
                    OneNetwork(team),
                    Validation(part.logits, val, recorder, averaging, findings=findings, team=team),
                    guard,
                    recorder,
                    ProgressLog(bar, config.epochs),
                    keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: check()),
                    *callbacks,
                ],
            )
        if guard.epoch is not None:
            _say_diverged(guard.epoch, config, recorder)
    if not recorder.best:
        raise RunError(
            f"No epoch of {config.run_folder} ended with a finite loss. Start again with "
            "--overwrite and a lower --lr."
        )
    if len(recorder.history) < config.epochs and recorder.has_waited:
        notice(
            f"No better {config.monitor} since epoch {recorder.best_epoch}: training ends after "
            f"epoch {len(recorder.history)}."
        )
    recorder.restore_best(model)


def _optimizer(part: TrainedPart, config: TrainConfig) -> keras.optimizers.Optimizer:
    """The optimizer, with loss scaling for float16, whose small gradients would vanish."""
    steps = len(part.batches) * config.epochs
    if config.accumulate > steps:
        raise CxrError(
            f"--accumulate {config.accumulate} makes one step of more batches than the {steps:,} "
            "of this training, so nothing would be learnt. Give a smaller one."
        )
    optimizer = make_optimizer(
        config.optimizer,
        learning_rate(config, steps),
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm or None,
        accumulate=config.accumulate,
        ema=config.ema or None,
        ema_warmup=True,
        multipliers=body_rates(part.logits, config),
        wait=config.head_epochs * len(part.batches),
    )
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
