"""How many runs are made: each in a process of its own, resumable.

A network that takes all memory, or crashes in native code, ends its own process and not the grid.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from cxr_keras import CxrError
from cxr_keras.utils.console import duration, notice, print_notices
from cxr_keras.utils.files import write_text
from cxr_keras.utils.memory import keep_freed_memory

RUN, MODEL = "run.json", "model.keras"  # in a run folder
FAILED = "failed.json"  # run → why, beside the run folders


class Job(Protocol):
    """One run."""

    @property
    def name(self) -> str:
        """Of the run folder."""
        ...

    @property
    def title(self) -> str:
        """For people."""
        ...

    @property
    def model(self) -> str:
        """The network."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What `cxr_keras.train` is given."""
        ...

    @property
    def cost(self) -> float:
        """Seconds that it takes on 2 cores, roughly: only the shares of the whole matter."""
        ...


Trainer = Callable[[Job, Path, Path], None]
# A run; why it failed, or ""; the seconds that it took, None where it was done before or failed
Made = tuple[Job, str, float | None]


def run_grid(
    plans: Sequence[Job],
    data: Path,
    folder: Path,
    *,
    keep_models: bool = True,
    trainer: Trainer | None = None,
    ray: str | None = None,
) -> dict[str, str]:
    """Run what is not done, resume what was interrupted, go on past what fails.

    Args:
        plans: in order.
        data: a folder in NIH's layout.
        folder: where the run folders lie.
        keep_models: leave each model.keras (up to 560 MB) in its run folder.
        trainer: makes one run; by default `train_apart`.
        ray: run them on the Ray cluster at this address, as many at once as it has room for; see
            `cxr_keras.inference.on_ray.cluster`.

    Returns:
        Run → a sentence, for those that failed; also written to failed.json in `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if ray is None:
        made = _one_by_one(plans, data, folder, trainer or train_apart)
    else:
        from grid_on_ray import run_on_ray

        made = run_on_ray(plans, data, folder, ray)
    failed = read_json(folder / FAILED)
    clock = _Clock(plans)
    for number, (plan, why, seconds) in enumerate(made, 1):
        failed.pop(plan.name, None)
        if why:
            failed[plan.name] = why
            notice(f"{plan.name} failed: {why}")
        elif not keep_models:
            (folder / plan.name / MODEL).unlink(missing_ok=True)
        clock.passed(plan, seconds)
        write_json(folder / FAILED, failed)
        notice(clock.bar(number))
    here = {plan.name for plan in plans}
    return {name: why for name, why in failed.items() if name in here}


def _one_by_one(plans: Sequence[Job], data: Path, folder: Path, trainer: Trainer) -> Iterator[Made]:
    for number, plan in enumerate(plans, 1):
        notice(f"[{number}/{len(plans)}] {plan.title}")
        begun, seconds, why = time.monotonic(), None, ""
        try:
            if is_done(plan, data, folder):
                notice(f"{plan.name} is done: skipped.")
            else:
                trainer(plan, data, folder)
                seconds = time.monotonic() - begun
        except Exception as error:  # whatever it was, the other runs go on
            why = str(error) or type(error).__name__
        yield plan, why, seconds


def script_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser that says what a script's docstring says: its first paragraph, then the rest."""
    first, *rest = (doc or "").split("\n\n")
    return argparse.ArgumentParser(
        description=first,
        epilog="\n\n".join(rest),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def exit_code(work: Callable[[], dict[str, str]]) -> int:
    """Do the work of a script, and say how it ended.

    Args:
        work: returns run → why, for the runs that failed.

    Returns:
        0; 1 for an error or a failed run, each a line on stderr; 130 for Ctrl-C.
    """
    try:
        failed = work()
    except CxrError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from here.", file=sys.stderr)
        return 130
    for name, why in failed.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    return 1 if failed else 0


def is_done(plan: Job, data: Path, folder: Path) -> bool:
    """Whether the run is finished with these very settings.

    Raises:
        CxrError: a run of this name was made with others.
    """
    info = read_json(folder / plan.name / RUN)
    if not info:
        return False
    wanted = {"model": plan.model, "data": str(data)} | plan.settings
    if "split_method" in wanted:
        wanted["split"] = wanted.pop("split_method")  # its name in run.json
    old = info.get("settings", {})
    changed = [f"{k} {old.get(k)!r} → {v!r}" for k, v in wanted.items() if old.get(k) != v]
    if changed:
        raise CxrError(
            f"{folder / plan.name} holds a run with other settings ({', '.join(changed)}). "
            "Give another --out, or remove that folder."
        )
    return info.get("status") == "done"


def read_json(file: Path) -> dict[str, Any]:
    """What a JSON file holds, empty where there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write it whole or not at all."""
    write_text(file, json.dumps(content, indent=1) + "\n")


def train_apart(plan: Job, data: Path, folder: Path) -> None:
    """Train one plan in a process of its own, resuming what is there.

    Raises:
        CxrError: it failed or was killed.
    """
    # "spawn" starts bare: a forked process could not use a GPU that its parent has touched
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_train, args=(sender, plan, str(data), str(folder)))
    child.start()
    sender.close()
    try:
        error = receiver.recv()
    except EOFError:
        child.join()
        error = f"Its process ended with {child.exitcode} and said nothing."
        if child.exitcode == -9:
            error = "It was killed (signal 9): most likely this machine has too little memory."
    finally:
        child.terminate()
        child.join()
    if error:
        raise CxrError(error)


def train_here(plan: Job, data: str, folder: str) -> str:
    """Train one plan in this process, resuming what is there; why it failed, or ""."""
    keep_freed_memory()
    from cxr_keras import train

    try:
        train(plan.model, data, resume=True, name=plan.name, folder=folder, **plan.settings)
    except CxrError as error:
        return str(error)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {str(error).strip() or 'no message'}"
    return ""


def _train(answer: Any, plan: Job, data: str, folder: str) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    print_notices()
    with suppress(KeyboardInterrupt):  # the grid was told, too
        answer.send(train_here(plan, data, folder))


def _end_with_parent() -> None:
    """A run whose grid was killed must not go on beside the one that resumes it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Clock:
    """Share of the grid that is done, by expected cost, and the time left."""

    WIDTH = 24

    def __init__(self, plans: Sequence[Job]):
        self.runs = len(plans)
        self.left = sum(plan.cost for plan in plans)
        self.passed_cost = self.timed_cost = self.seconds = 0.0
        self.total = self.left

    def passed(self, plan: Job, seconds: float | None) -> None:
        """One run is over; `seconds` is None where it was skipped or failed."""
        cost = plan.cost
        self.passed_cost += cost
        self.left -= cost
        if seconds is not None:
            self.timed_cost += cost
            self.seconds += seconds

    def bar(self, done: int) -> str:
        """The bar as a line of text: training draws its own live one below it."""
        filled = round(self.WIDTH * self.passed_cost / self.total) if self.total else self.WIDTH
        text = f"Grid {'█' * filled}{'░' * (self.WIDTH - filled)} {done}/{self.runs} runs"
        if self.left > 0.5 and self.timed_cost:
            return f"{text}, about {duration(self.left * self.seconds / self.timed_cost)} left"
        return text if self.left <= 0.5 else f"{text}, time left known after the first"
