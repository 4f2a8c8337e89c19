"""One training over several processes, which `torchrun` or SLURM's `srun` starts.

Every process holds the whole network and its own share of each batch; gradients are averaged. What
they do together is a `Team`'s: sums, a wait, what the first of them knows. A training on its own is
a team of one, for which all of it is nothing.

On CPUs they talk through gloo, on GPUs through NCCL. A process that dies closes its connections, so
the next thing that the others do together fails within seconds; they end with one sentence.

Keras 3.15 has no `keras.distribution` on torch. Where a later one has, this module is the seam.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar

import keras
import numpy as np

from cxr_keras.errors import RunError
from cxr_keras.utils.console import quiet

Result = TypeVar("Result")
_TIMEOUT = timedelta(days=1)  # the first may decode 112,120 images while the others wait
_ENDED = "cxr_keras/ended"  # in the processes' common store: somebody said why
_DEFAULT_PORT = 29500
_LOST = (
    "Another process of this training has died, so it ends. --resume goes on after the last "
    "checkpoint, on any number of processes."
)


@dataclass(frozen=True)
class Place:
    """Which of how many processes this one is.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        local: its number on this machine.
    """

    rank: int = 0
    size: int = 1
    local: int = 0


class Team:
    """The processes of a training; this class is a team of one.

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
    """

    rank, size = 0, 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prepares, writes and prints."""
        return self.rank == 0

    def sum(self, values: Any) -> np.ndarray:
        """The sum over all processes of an array that each of them has, float64."""
        return np.asarray(values, dtype="float64")

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return bool(self.sum([float(flag)])[0])

    def shared(self, value: Result) -> Result:
        """The first process's value; what the others pass is not looked at."""
        return value

    def in_turn(self, make: Callable[[], Result]) -> Result:
        """`make()`, first by the first process; the others find in the cache what it made."""
        return make()

    def gathered(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n_i, …) of all processes, process by process."""
        return rows

    def batch_sum(self, tensor: Any) -> Any:
        """The sum over all processes of a torch tensor, with its gradient."""
        return tensor


ALONE = Team()


class _Processes(Team):
    """A team of several, over torch.distributed."""

    def __init__(self, place: Place):
        self.rank, self.size = place.rank, place.size

    def sum(self, values: Any) -> np.ndarray:
        import torch

        total = torch.as_tensor(np.array(values, dtype="float64"))
        torch.distributed.all_reduce(total)
        return np.asarray(total.numpy())

    def shared(self, value: Result) -> Result:
        import torch

        box = [value if self.is_first else None]
        torch.distributed.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]  # type: ignore[return-value]

    def in_turn(self, make: Callable[[], Result]) -> Result:
        result = make() if self.is_first else None
        self.shared(None)
        return make() if result is None else result

    def gathered(self, rows: np.ndarray) -> np.ndarray:
        import torch

        parts: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(parts, rows)
        return np.concatenate(parts)

    def batch_sum(self, tensor: Any) -> Any:
        import torch

        return _sum_with_gradient(torch).apply(tensor)


def place_of(environment: Mapping[str, str]) -> Place:
    """Which process this is, by what torchrun or srun put into its environment.

    Raises:
        RunError: a number among it is none.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if "WORLD_SIZE" not in environment and environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    try:
        rank, size, local = (int(environment.get(n, d)) for n, d in zip(names, "010", strict=True))
    except ValueError as error:
        said = ", ".join(f"{n}={environment.get(n)}" for n in names)
        raise RunError(
            f"The environment does not say which process this is: {said}. Start the training with "
            "torchrun or srun."
        ) from error
    return Place(rank, size, local)


@contextmanager
def team() -> Iterator[Team]:
    """The team of this process, joined for the body's duration.

    Raises:
        RunError: there are several processes, and another backend than torch; or one of them died.
    """
    place = place_of(os.environ)
    if place.size == 1:
        yield ALONE
        return
    if keras.backend.backend() != "torch":
        raise RunError(
            "Several processes train together on torch only, and KERAS_BACKEND is "
            f"{keras.backend.backend()}. Set KERAS_BACKEND=torch, or start one process."
        )
    import torch

    _join(place)
    try:
        with quiet(place.rank != 0):
            yield _Processes(place)
    except torch.distributed.DistError as error:
        _end_after(error)
    except RuntimeError as error:  # gloo's own errors are no DistError
        if not _is_lost(error):
            _say_ended()
            raise
        _end_after(error)
    except BaseException:
        _say_ended()
        raise
    finally:
        with suppress(Exception):
            torch.distributed.destroy_process_group()


def is_first() -> bool:
    """Whether this process prints: the first, or the only one."""
    return place_of(os.environ).rank == 0


@lru_cache(maxsize=1)
def _sum_with_gradient(torch: Any) -> Any:
    """An autograd function: the sum over all processes, whose gradient is the sum of theirs."""

    class Sum(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, tensor: Any) -> Any:
            total = tensor.clone()
            torch.distributed.all_reduce(total)
            return total

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            total = gradient.clone()
            torch.distributed.all_reduce(total)
            return total

    return Sum


def _join(place: Place) -> None:
    import torch

    os.environ.setdefault("RANK", str(place.rank))
    os.environ.setdefault("WORLD_SIZE", str(place.size))
    os.environ.setdefault("MASTER_ADDR", _first_host())
    os.environ.setdefault("MASTER_PORT", str(_DEFAULT_PORT))
    on_gpu = keras.ops.convert_to_tensor(0).device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(place.local)
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    torch.distributed.init_process_group(backend, timeout=_TIMEOUT)


def _first_host() -> str:
    """The machine of the first process: SLURM's first, or this one."""
    nodes = os.environ.get("SLURM_STEP_NODELIST")
    if not nodes:
        return "127.0.0.1"
    shown = subprocess.run(
        ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True
    )
    return shown.stdout.split()[0]


def _store() -> Any:
    import torch

    return torch.distributed.distributed_c10d._get_default_store()


def _say_ended() -> None:
    """Leave word that this process says itself why the training ends."""
    with suppress(Exception):
        _store().set(_ENDED, "yes")


def _end_after(error: BaseException) -> None:
    """End because another process did: silently where that one said why."""
    said = False
    with suppress(Exception):
        said = bool(_store().check([_ENDED]))
    if said:
        raise SystemExit(1) from error
    _say_ended()
    raise RunError(_LOST) from error


def _is_lost(error: RuntimeError) -> bool:
    """Whether gloo lost the connection to another process."""
    text = str(error).lower()
    return "gloo" in text or "connection" in text or "broken pipe" in text
