"""`tune`: the numbers of a recipe, searched on the validation split.

A trial is a training without its end: no model file, no thresholds, no tables, and no network ever
sees the test split. What to try next, and which trial to give up, is Optuna's: the tree-structured
Parzen estimator (Bergstra et al., NeurIPS 2011) and the median of the trials before. Every trial
lies in a journal file, so a search goes on after whatever ended it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shlex
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import keras
import pandas as pd

from cxr_keras import plots
from cxr_keras.data.preparation import Prepared
from cxr_keras.data.reading import Data, Reading, as_data
from cxr_keras.errors import CxrError, RunError
from cxr_keras.models.registry import get_spec
from cxr_keras.runs.run_folder import hold_folder, make_folder
from cxr_keras.training.building import (
    build_network,
    complete_config,
    prepare_images,
    read_images,
)
from cxr_keras.training.checkpoint import Recorder
from cxr_keras.training.config import TrainConfig
from cxr_keras.training.determinism import check_deterministic, deterministic_torch
from cxr_keras.training.feature_cache import trained_part
from cxr_keras.training.fitting import fit
from cxr_keras.training.options import TUNE_TRIALS, Settings
from cxr_keras.training.own_start import OwnStart, own_start
from cxr_keras.training.processes import place_of
from cxr_keras.training.search_space import (
    CATEGORIES,
    searched,
    settings_text,
    suggest,
    value_text,
)
from cxr_keras.training.study import (
    DONE,
    OUTCOME,
    check_place,
    count_finished,
    import_optuna,
    open_study,
)
from cxr_keras.utils.arguments import Real, Whole, real, whole
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import write_table, write_text

CURVES = "trials"  # the folder of their histories
TRIALS, BEST, FIGURE = "trials.csv", "best.json", "tuning.png"
MONITOR = "val_auroc"
_ENOUGH = 4  # trials that were done before one can say what mattered
_NEVER = 10**9  # epochs between checkpoints: a trial that was interrupted begins again


@dataclass(frozen=True)
class Tuning:
    """A search.

    Attributes:
        folder: holds trials.csv, best.json, tuning.png, study.journal, and trials/, with the
            history of each trial.
        trials: a row a trial, the best first: trial, outcome ("done", "given up" or "diverged"),
            the monitored value of its best epoch (of its last one where it was given up), epochs,
            seconds, and each setting that was searched.
        settings: those of the best trial, to be given to `train`; empty where none was done.
        importance: setting → its share of the differences between the trials that were done
            (functional ANOVA, Hutter et al. 2014); empty for fewer than 4 of them.
    """

    folder: Path
    trials: pd.DataFrame
    settings: dict[str, Any]
    importance: dict[str, float]


def tune(
    model: str,
    data: Data | None = None,
    *,
    trials: Whole = TUNE_TRIALS,
    minutes: Real | None = None,
    overwrite: bool = False,
    resume: bool = False,
    **settings: Unpack[Settings],
) -> Tuning:
    """Search the numbers of a network's recipe on the validation split.

    Searched are the learning rate, weight decay, layer-wise decay, label smoothing, the average of
    the weights, and augmentation, as far as they concern the network and are not given. The value
    of a trial is that of its best epoch, so the best of many trials flatters: train with the
    settings, and evaluate on a test split or on other data.

    Args:
        model: a registered network, see `cxr-keras models`.
        data: as in `train`.
        trials: how many, those of an interrupted search included.
        minutes: after so many no trial begins, and the one under way ends with its epoch; None
            for no limit.
        overwrite: replace a search of the same name.
        resume: go on with a search of the same name and settings.
        **settings: of `train`: each stays as it is said. `monitor` is "val_auroc" by default,
            `name`, of the search's folder, "MODEL-tune".

    Raises:
        CxrError: a setting or the data cannot be used, Optuna is not installed, or the folder is
            another search's.

    Example:
        >>> from cxr_keras import tune
        >>> found = tune("resnet_custom", data="data/nih", trials=2, epochs=2, size=64)
        >>> len(found.trials)
        2
    """
    if place_of(os.environ).size > 1:
        raise CxrError("A search runs in one process. Start `tune` without torchrun or srun.")
    optuna = import_optuna()
    trials = whole("trials", trials, at_least=1)
    end = None if minutes is None else time.monotonic() + 60 * _checked(minutes)
    said: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
    base = complete_config(model, {"data": data, "monitor": MONITOR, **said})
    check_deterministic(base.deterministic)
    place = Path(base.folder) / (base.name or f"{base.model}-tune")
    names = searched(base, said, pretrained=base.is_pretrained())
    if not names:
        raise CxrError(
            "Every setting that a search could try was given. Leave one of them out, such as --lr."
        )
    check_place(place, overwrite=overwrite, resume=resume)
    start = own_start(base, resume=False)
    prepared = prepare_images(base, read_images(base))
    if start:
        start.say_seen(prepared)
    if overwrite and place.exists():
        with hold_folder(place):
            shutil.rmtree(place)
    make_folder(place / CURVES, exist_ok=True)
    with hold_folder(place), deterministic_torch(base.deterministic):
        study = open_study(optuna, place, base, prepared, names)
        while (number := count_finished(study)) < trials and (
            end is None or time.monotonic() < end
        ):
            trial = study.ask()
            values = suggest(trial, names)
            notice(f"Trial {number + 1} of {trials}: {settings_text(values)}.")
            config = dataclasses.replace(base, **values)
            value, state = _run(optuna, trial, config, prepared, start, place, end)
            if state is None:
                notice(f"Time is up: trial {number + 1} is given up, --resume tries it again.")
                break
            study.tell(trial, value, state=state)
        said = {
            key: os.fspath(value) if isinstance(value, os.PathLike) else value
            for key, value in said.items()
            if key not in ("name", "folder")
        }
        said |= {"recipe": base.recipe, "monitor": base.monitor}  # training would choose by another
        return _written(optuna, study, place, base, said, names)


def _run(
    optuna: Any,
    trial: Any,
    config: TrainConfig,
    prepared: Prepared,
    start: OwnStart | None,
    place: Path,
    end: float | None,
) -> tuple[float | None, Any]:
    """One trial: its value, None where it has none, and its state, None if time ran out."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(config.seed)
    begun = time.monotonic()
    network = build_network(config.model, config, start, prepared.labels)
    part = trained_part(network, config, prepared)
    curve = place / CURVES / f"{trial.number + 1:03}.csv"
    recorder = Recorder(
        curve,
        curve.with_suffix(".none"),
        monitor=config.monitor,
        patience=config.early_stop,
        every=_NEVER,
    )
    value, state, outcome = None, optuna.trial.TrialState.COMPLETE, DONE
    try:
        fit(part, config, recorder, [_Watch(trial, recorder, config.epochs, end)], resume=False)
        value = max(v for v in recorder.values if v == v)
    except _OutOfTime:
        return None, None
    except _GivenUp:
        state, outcome = optuna.trial.TrialState.PRUNED, "given up"
    except RunError as error:  # no epoch ended with a finite loss
        notice(str(error))
        state, outcome = optuna.trial.TrialState.FAIL, "diverged"
    trial.set_user_attr(OUTCOME, outcome)
    trial.set_user_attr("epochs", len(recorder.history))
    trial.set_user_attr("seconds", round(time.monotonic() - begun, 1))
    return value, state


class _OutOfTime(Exception):
    """The minutes are over."""


class _GivenUp(Exception):
    """The trial is behind those before it."""


class _Watch(keras.callbacks.Callback):
    """Tells the study each epoch's value, and ends a trial that is given up or out of time."""

    def __init__(self, trial: Any, recorder: Recorder, epochs: int, end: float | None):
        super().__init__()
        self.trial, self.recorder, self.epochs, self.end = trial, recorder, epochs, end

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if math.isfinite(value := self.recorder.values[-1]):
            self.trial.report(value, epoch)
        if epoch + 1 == self.epochs:
            return
        if self.end is not None and time.monotonic() > self.end:
            raise _OutOfTime
        if self.trial.should_prune():
            raise _GivenUp


def _checked(minutes: Real) -> float:
    value = float(real("minutes", minutes))
    if value <= 0:
        raise CxrError(f"minutes must be above 0. Received: {value:g}.")
    return value


def _rank(trial: Any) -> tuple[bool, float]:
    """What trials are sorted by: those that were done, and the value."""
    value = -math.inf if trial.value is None else trial.value
    return trial.user_attrs[OUTCOME] == DONE, value


def _written(
    optuna: Any,
    study: Any,
    place: Path,
    base: TrainConfig,
    said: Mapping[str, Any],
    names: tuple[str, ...],
) -> Tuning:
    """Write the table, the figure and the best settings of what was tried so far."""
    sign = -1.0 if base.monitor == "val_loss" else 1.0
    over = [trial for trial in study.trials if OUTCOME in trial.user_attrs]
    rows = [
        {
            "trial": trial.number + 1,
            OUTCOME: trial.user_attrs[OUTCOME],
            base.monitor: math.nan if trial.value is None else sign * trial.value,
            "epochs": trial.user_attrs["epochs"],
            "seconds": trial.user_attrs["seconds"],
            **{name: trial.params[name] for name in names},
        }
        for trial in sorted(over, key=_rank, reverse=True)
    ]
    columns = ["trial", OUTCOME, base.monitor, "epochs", "seconds", *names]
    table = pd.DataFrame(rows, columns=columns)
    done = table[table[OUTCOME] == DONE]
    importance: dict[str, float] = {}
    if len(done) >= _ENOUGH and done[base.monitor].nunique() > 1:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=base.seed)
        importance = optuna.importance.get_param_importances(study, evaluator=evaluator)
    write_table(table, place / TRIALS)
    best: dict[str, Any] = {}
    if len(done):
        best = dict(said) | {name: rows[0][name] for name in names}
        about = {"model": base.model, "recipe": base.recipe, base.monitor: rows[0][base.monitor]}
        text = json.dumps(about | {"settings": best, "importance": importance}, indent=1)
        write_text(place / BEST, text + "\n")
        texts = {name: done[name].map(value_text) for name in CATEGORIES if name in names}
        figure = plots.tuning_figure(done.assign(**texts), names, base.monitor, importance)
        plots.save_figure(figure, place / FIGURE)
    return Tuning(place, table, best, importance)


def train_command(model: str, data: Data | None, settings: Mapping[str, Any]) -> str:
    """The command that trains with these settings, without those that are the recipe's anyway."""
    reading, settings = Reading.of(settings)
    usual = complete_config(model, {"recipe": settings.get("recipe")})
    words = ["cxr-keras", "train", model]
    for one in as_data(data):
        words += ["--data", str(one)]
    for name, value in reading.said().items():
        text = value if isinstance(value, str) else ",".join(value)
        words += [f"--{name.replace('_', '-')}", text]
    if usual.recipe != get_spec(model).recipe:
        words += ["--recipe", usual.recipe]
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if name == "flip" and value != usual.flip:
            words.append(option if value else "--no-flip")
        elif name != "flip" and value != getattr(usual, name):
            words += [option, f"{value:.6g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)
