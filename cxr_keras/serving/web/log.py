"""Errors nobody expected, in the log: which kind and where, and nothing that a client sent."""

from __future__ import annotations

import threading
import time
import traceback

from cxr_keras.utils.console import notice

_EVERY = 1.0  # seconds between two lines


class ErrorLog:
    """Says an error on stderr, at most one a second."""

    def __init__(self) -> None:
        self._lock, self._next, self._unsaid = threading.Lock(), 0.0, 0

    def unexpected(self, path: str, error: Exception) -> None:
        """Say it. Its message may hold what a client sent, so only its type and place are said."""
        with self._lock:
            if time.monotonic() < self._next:
                self._unsaid += 1
                return
            more = f" ({self._unsaid} more since the last one)" if self._unsaid else ""
            self._next, self._unsaid = time.monotonic() + _EVERY, 0
        last = traceback.extract_tb(error.__traceback__)[-1:]
        place = f" at {last[0].filename}:{last[0].lineno}" if last else ""
        notice(f"An error of the server: {type(error).__name__}{place}, {path[:80]}{more}.")
