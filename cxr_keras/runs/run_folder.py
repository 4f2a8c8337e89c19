"""The run folder: the names of its files; made, held, described in run.json."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from cxr_keras import __version__
from cxr_keras.data import phantom
from cxr_keras.data.preparation import Prepared
from cxr_keras.data.reading import PATHS, Data, Reading
from cxr_keras.data.source import drawn_again
from cxr_keras.data.splits import SPLITS, shared_patients, split_digest
from cxr_keras.errors import DataError, RunError
from cxr_keras.runs.card import Card
from cxr_keras.runs.model_file import MODEL
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import write_text

if sys.platform != "win32":
    import fcntl


RUN, HISTORY, CHECKPOINT, LOSS_PLOT = "run.json", "history.csv", "checkpoint.npz", "loss.png"
PREDICTIONS, VAL_PREDICTIONS = "predictions.csv", "predictions_val.csv"
VALIDATION = "validation"  # the folder of the tables of a run without a test split
STARTED_FROM = "started_from.keras"  # while training, a copy of the own file that it started from


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run folder while the body runs; a killed one lets go.

    The lock is on the folder itself, so it leaves no file. Where there are no such locks
    (Windows) nothing is held.

    Raises:
        RunError: another process works in it.
    """
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)


def clear_leftovers(folder: Path) -> None:
    """Delete what a killed training left half-written; call it while you hold the folder."""
    for leftover in folder.glob(".*.tmp*"):
        if leftover.is_file():
            leftover.unlink(missing_ok=True)


def _lock(handle: int, folder: Path) -> None:
    held = f"Another process is working in {folder}. Wait for it, or give --name for another."
    try:
        if sys.platform != "win32":
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunError(held) from error
    except OSError:  # a file system without locks
        notice(f"{folder} cannot be locked; do not train in it twice at once.")
    if os.fstat(handle).st_ino != os.stat(folder).st_ino:
        raise RunError(held)  # it has put a new folder in this one's place


def make_folder(folder: Path, *, exist_ok: bool = False) -> None:
    """Make a run folder.

    Raises:
        RunError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        raise RunError(
            f"The run folder {folder} cannot be made ({error.strerror}). "
            "Give --output-dir with a folder that you can write."
        ) from error


def run_info(settings: Mapping[str, Any], prepared: Prepared) -> dict[str, Any]:
    """run.json as it stands when training begins."""
    backend = keras.backend.backend()
    packages = ("keras", "numpy", "pandas", "pillow", "scikit-learn")
    sizes = prepared.manifest["split"].value_counts()
    return {
        "status": "running",
        "notice": phantom.NOTICE if prepared.phantoms else "",
        "settings": dict(settings),
        "data": {
            "root": str(prepared.root.resolve()),
            "phantoms": prepared.phantoms,
            "fingerprint": prepared.fingerprint,
            "per_class": settings["per_class"],
            "not_chosen": prepared.not_chosen,
            "split": prepared.split_method,
            "val_share": settings["val_share"],
            "test_share": settings["test_share"],
            "split_digest": split_digest(prepared.manifest),
            "seed": settings["data_seed"],
            "size": prepared.framing.size,
            "fit": prepared.framing.fit,
            "sizes": {name: int(sizes.get(name, 0)) for name in SPLITS},
            "shared_patients": shared_patients(prepared.manifest),
            "base_rates": prepared.base_rates(),
            **_reading_of(prepared),
        },
        "versions": {
            "cxr-keras": __version__,
            "python": platform.python_version(),
            "backend": backend,
            backend: str(import_module(backend).__version__),
            **{name: version(name) for name in packages},
        },
    }


def _reading_of(prepared: Prepared) -> dict[str, Any]:
    """How the data was read and what was joined, where it is not one folder read as usual."""
    said: dict[str, Any] = {}
    for name, value in prepared.reading.said().items():
        if name in PATHS:
            said[name] = str(Path(str(value)).expanduser().resolve())
        else:
            said[name] = list(value) if isinstance(value, tuple) else value
    made = {"in_python": True} if prepared.in_python else {}
    roots = [str(root.resolve()) for root in prepared.roots]
    several = {"roots": roots} if len(roots) > 1 else {}
    return ({"reading": said} if said else {}) | several | made


def results_folder(file: Path) -> Path:
    """Where results of a model file belong: its run folder, or for a file on its own one beside it.

    So the results of two `.keras` files in one folder do not overwrite each other.
    """
    in_run = file.name == MODEL and (file.parent / RUN).exists()
    return file.parent if in_run else file.with_suffix("")


def own_data(file: Path, card: Card) -> tuple[Data | None, Reading]:
    """The data that a network was trained on, and how it was read; None for a file without a card.

    The file holds the folder's name only (an older one its path); run.json beside a run's
    model.keras holds its path. Built-in phantoms that are gone from the cache are drawn again.

    Raises:
        DataError: the path is not known here.
    """
    data = card.data
    if data.get("root") is None:
        return None, Reading()
    if data.get("in_python"):
        raise DataError(
            f"{file} was trained on a data set made in Python, {data['root']}. Give it: "
            "evaluate(run, data) or calibrate(run, data)."
        )
    if not Path(data["root"]).is_absolute() and file.name == MODEL and (file.parent / RUN).exists():
        data = read_run(file.parent).get("data", {}) or data
    phantoms = bool(card.data.get("phantoms"))
    roots = data.get("roots") or [data.get("root", card.data["root"])]
    folders = [drawn_again(Path(root), phantoms=phantoms) for root in roots]
    if all(folder.is_absolute() for folder in folders):
        return tuple(folders), Reading(**data.get("reading", {}))
    raise DataError(
        f"{file} was trained on {' and '.join(map(str, roots))}, and does not say where that is; "
        "run.json beside a run's model.keras does. Name the folder with --data."
    )


def write_run(folder: Path, content: dict[str, Any]) -> None:
    """Write run.json."""
    write_text(folder / RUN, json.dumps(content, indent=1) + "\n")


def read_run(folder: Path) -> dict[str, Any]:
    """Read run.json.

    Raises:
        RunError: there is none, or it is not JSON.
    """
    file = folder / RUN
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read: {folder} is no run folder ({error}).") from error
    return content
