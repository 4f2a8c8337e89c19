"""The run folder of a training: refused, made, or put in the place of the one it replaces.

A run that replaces another is written beside it, into `.<name>.new`, and takes its name when it is
done; so whatever ends the training, kill -9 included, the old run is where it was, and --resume
goes on with the new one. Only the exchange itself moves the old one aside, to `.<name>.old`; what a
process killed at that very moment leaves is put right by the next training of that name.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cxr_keras.errors import RunError
from cxr_keras.framing import FIT, SIZE
from cxr_keras.runs.run_folder import CHECKPOINT, RUN, hold_folder, make_folder, read_run
from cxr_keras.utils.console import notice


def check_folder(
    folder: Path, settings: Mapping[str, Any], *, overwrite: bool, resume: bool
) -> None:
    """Refuse, before any work is done, a folder that `training_folder` would refuse.

    Raises:
        RunError: it exists and neither option was given, or it is finished, another run's, or no
            run folder at all.
    """
    if overwrite and resume:
        raise RunError("--overwrite and --resume exclude each other; give one of them.")
    _finish_exchange(folder)
    if resume:
        _check_same_run(resumed_folder(folder), settings)
    elif _is_taken(folder):
        if not overwrite:
            raise RunError(_already_there(folder, settings))
        read_run(folder)  # only a run folder is ever replaced


def resumed_folder(folder: Path) -> Path:
    """Where the run lies that `--resume` goes on with: beside the one that it replaces, if any."""
    beside = _beside(folder, "new")
    return beside if beside.exists() else folder


@contextmanager
def training_folder(folder: Path, *, overwrite: bool, resume: bool) -> Iterator[Path]:
    """Where a training that `check_folder` let pass writes, held while the body runs.

    It is `folder` itself, unless that holds a run that is to be replaced: then it is one beside it,
    which takes its place if the body succeeds.

    Raises:
        RunError: it cannot be made, or another process works in it.
    """
    beside = _beside(folder, "new")
    replaces = _is_taken(folder) and (overwrite or (resume and beside.exists()))
    place = beside if replaces else folder
    with ExitStack() as held:
        if replaces:
            held.enter_context(hold_folder(folder))
            if overwrite and beside.exists():
                shutil.rmtree(beside, ignore_errors=True)  # what cannot go fails the next line
            notice(f"{folder} stays as it is until the new run is done.")
        make_folder(place, exist_ok=resume or not _is_taken(place))
        held.enter_context(hold_folder(place))
        try:
            yield place
        except BaseException:
            if replaces:
                _say_what_is_left(folder, beside)
            raise
        if replaces:
            _exchange(folder, beside)


def check_same_data(folder: Path, info: dict[str, Any]) -> None:
    """Stop a resumed run whose data are not those it was begun on.

    Raises:
        RunError: what was trained on might now be in the test split.
    """
    if not (folder / RUN).exists():
        return  # stopped before anything was written
    before = read_run(folder).get("data", {}).get("fingerprint")
    if before != info["data"]["fingerprint"]:
        raise RunError(
            f"The data changed since {folder} was begun, so its split is another one. Bring the "
            "old data back, or start again with --overwrite."
        )


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _is_taken(folder: Path) -> bool:
    return folder.exists() and any(folder.iterdir())


def _is_done(folder: Path) -> bool:
    return (folder / RUN).exists() and read_run(folder).get("status") == "done"


def _check_same_run(folder: Path, now: Mapping[str, Any]) -> None:
    if not (folder / RUN).exists():
        _check_only_leftovers(folder)
        return  # stopped before anything was written
    if _is_done(folder):
        raise RunError(
            f"The run {folder} is finished; there is nothing to resume. Give --overwrite to train "
            "it again, or --name for another."
        )
    changed = _differences(folder, now)
    if changed:
        raise RunError(
            f"The run {folder} was begun with other settings ({changed}). "
            "Resume it with the same ones, or give --overwrite."
        )


def _check_only_leftovers(folder: Path) -> None:
    """Of a training that was killed as it wrote its first file."""
    if folder.exists() and any(not path.match(".*.tmp*") for path in folder.iterdir()):
        raise RunError(
            f"{folder} is no run folder (it holds no {RUN}), so there is nothing to resume. Give "
            "--name or --output-dir for another folder."
        )


def _already_there(folder: Path, now: Mapping[str, Any]) -> str:
    """What stands in the way of a new run, and what to do."""
    if not (folder / RUN).exists():
        return f"The folder {folder} exists and is no run folder. Give --name for another."
    changed = _differences(folder, now)
    how = f"with other settings ({changed})" if changed else "with these settings"
    can_resume = not changed and not _is_done(folder)
    resume = "--resume to go on with it, " if can_resume else ""
    if _beside(folder, "new").exists():
        how += f", and one that was to replace it was interrupted ({_beside(folder, 'new')})"
        resume = "--resume to go on with that one, "
    return (
        f"The run folder {folder} exists, {how}. Give {resume}--overwrite to replace it, or --name "
        "for another."
    )


def _differences(folder: Path, now: Mapping[str, Any]) -> str:
    """In which settings a run differs from `now`: "lr 0.001 → 0.0005, seed 42 → 7"."""
    later = {"size": SIZE, "fit": FIT, "boxes": None, "box_weight": 0.1}  # than the first runs
    old = later | read_run(folder).get("settings", {})
    if "seed" in old:  # which was once the data's, too
        old = {"data_seed": old["seed"]} | old
    changed = [name for name in now if name in old and old[name] != now[name]]
    return ", ".join(f"{name} {old[name]!r} → {now[name]!r}" for name in changed)


def _say_what_is_left(folder: Path, beside: Path) -> None:
    """After a failure or Ctrl-C: the old run, and what there is of the new one."""
    if (beside / CHECKPOINT).exists():
        notice(f"The old run is still {folder}. --resume goes on with the new one, in {beside}.")
    else:
        shutil.rmtree(beside, ignore_errors=True)
        notice(f"The old run is still {folder}; nothing of the new one is worth keeping.")


def _exchange(folder: Path, beside: Path) -> None:
    """Put a finished run in the place of the old one, which goes."""
    old = _beside(folder, "old")
    folder.rename(old)
    beside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _finish_exchange(folder: Path) -> None:
    """Put right what a process that was killed during, or just before, an exchange left."""
    new, old = _beside(folder, "new"), _beside(folder, "old")
    if not new.exists() and not old.exists():
        return
    with ExitStack() as held:
        for path in (folder, new):
            if path.exists():
                held.enter_context(hold_folder(path))
        if new.exists() and folder.exists() and _is_done(new):
            shutil.rmtree(old, ignore_errors=True)
            _exchange(folder, new)
            notice(f"{folder} is now the run that was finished to replace it.")
        elif not folder.exists():
            (new if new.exists() else old).rename(folder)
        shutil.rmtree(old, ignore_errors=True)
