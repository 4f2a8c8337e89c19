"""An ordered map over threads that keeps few results waiting and stops at once on Ctrl-C.

Pillow and numpy let go of the interpreter lock while they decode, resize and compute, so threads
use all cores without the cost (and the `__main__` guard) of processes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threaded_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None
) -> Iterator[Result]:
    """`map(function, items)` on threads, results in the items' order.

    At most four results a worker wait to be taken. An error of `function` is raised where its
    result would come; whatever ends the iteration cancels what has not begun.
    """
    workers = workers or usable_cores()
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
