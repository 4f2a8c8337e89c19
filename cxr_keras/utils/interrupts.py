"""Ctrl-C that a library takes for its own error.

Keras has a bare `except` around a check that it makes of every batch (`keras.Functional`), which
turns a `KeyboardInterrupt` into a warning and goes on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_kept() -> Iterator[Callable[[], None]]:
    """Within the body, remember that Ctrl-C was pressed.

    Where somebody else handles the signal, and on threads, which do not get it, nothing changes.

    Yields:
        A function that raises `KeyboardInterrupt` if it was pressed and the body still runs.
    """
    pressed = threading.Event()

    def press(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.default_int_handler(number, frame)

    def check() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, press)
    try:
        yield check
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
