"""A search as Optuna keeps it: its journal file, and what is left in it of an interrupted trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxr_keras.data.preparation import Prepared
from cxr_keras.errors import CxrError, RunError
from cxr_keras.training.config import TrainConfig

JOURNAL = "study.journal"
OUTCOME, DONE = "outcome", "done"  # a trial's, once it is over
EXTRA = 'python -m pip install "cxr-keras[tune]"'
_STARTUP = 5  # trials before one is given up for being worse than the median
_ABOUT = "about"  # what the study's journal says of settings and data


def import_optuna() -> Any:
    """Optuna, which says errors only.

    Raises:
        CxrError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise CxrError(f"tune needs Optuna, which is not installed. Run: {EXTRA}.") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def check_place(place: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse, before any work is done, a folder that cannot be used as asked."""
    if overwrite and resume:
        raise RunError("--overwrite and --resume exclude each other; give one of them.")
    if not place.exists() or not any(place.iterdir()):
        return
    if not (place / JOURNAL).is_file():
        raise RunError(f"The folder {place} exists and holds no search. Give --name for another.")
    if not overwrite and not resume:
        raise RunError(
            f"The search {place} exists. Give --resume to go on with it, --overwrite to begin it "
            "again, or --name for another."
        )


def open_study(
    optuna: Any, place: Path, base: TrainConfig, prepared: Prepared, names: tuple[str, ...]
) -> Any:
    """The search as the journal holds it; a trial that was interrupted in it is tried again.

    Raises:
        RunError: it was begun with other settings or data.
    """
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(place / JOURNAL)))
    study = optuna.create_study(
        study_name=f"tune {base.model}",
        storage=storage,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(_STARTUP, n_warmup_steps=max(1, base.epochs // 3)),
    )
    study.sampler = optuna.samplers.TPESampler(seed=base.seed + len(study.trials))
    fixed = {key: value for key, value in base.settings().items() if key not in names}
    now = {"searched": list(names), "data": prepared.fingerprint, "settings": fixed}
    now = json.loads(json.dumps(now, default=str))
    before = study.user_attrs.get(_ABOUT, now)
    if before != now:
        raise RunError(
            f"The search {place} was begun with other settings or data "
            f"({_difference(before, now)}). Resume it with the same ones, or give --overwrite."
        )
    study.set_user_attr(_ABOUT, now)
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In what two searches differ: "epochs 8 → 10"."""
    old, new = (dict(about["settings"]) | {"data": about["data"]} for about in (before, now))
    new["settings searched"], old["settings searched"] = now["searched"], before["searched"]
    changed = [key for key in new if old.get(key) != new[key]]
    return ", ".join(f"{key} {old.get(key)!r} → {new[key]!r}" for key in changed)


def count_finished(study: Any) -> int:
    """How many trials are over; one that was interrupted is not."""
    return sum(OUTCOME in trial.user_attrs for trial in study.trials)
