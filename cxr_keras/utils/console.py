"""What a person sees while waiting: notices and progress bars, always on stderr.

Notices go through `logging` under the name "cxr_keras"; the command line calls `print_notices`,
and a Python program configures logging as it likes. On a terminal a progress bar shows the share
done and the time left. Elsewhere (a log file, a pipe) it is a line now and then, so that a log
still tells how far the work is.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LOG_EVERY_S = 15.0


_logger = logging.getLogger("cxr_keras")


def notice(text: str) -> None:
    """Log one sentence that the reader of a result should know."""
    _logger.info(text)


@contextmanager
def quiet(silent: bool = True) -> Iterator[None]:
    """Within the body no notice and no bar is shown, if `silent`: another process shows them."""
    before = _logger.disabled
    _logger.disabled = before or silent
    try:
        yield
    finally:
        _logger.disabled = before


def print_notices() -> None:
    """Print notices on stderr, as the command line does."""
    if not any(isinstance(handler, _StderrHandler) for handler in _logger.handlers):
        _logger.addHandler(_StderrHandler())
        _logger.setLevel(logging.INFO)


class _StderrHandler(logging.Handler):
    """Prints on stderr, above the live progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        if _live:
            text = record.getMessage()
            _live[-1].console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(record.getMessage(), file=sys.stderr, flush=True)


class Bar:
    """A running count towards `total`; `advance` it as the work goes on."""

    def __init__(self, title: str, total: int, progress: Progress | None):
        self.title, self.total, self.done = title, total, 0
        self._progress = progress
        self._task = progress.add_task(title, total=total) if progress else None
        self._start = self._said = time.monotonic()

    def advance(self, by: int = 1, title: str | None = None) -> None:
        """Count `by` more as done; `title` replaces the text before the bar."""
        self.done += by
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=by, description=title or self.title)
        elif time.monotonic() - self._said >= LOG_EVERY_S and self.done < self.total:
            self._said = time.monotonic()
            left = (self._said - self._start) / self.done * (self.total - self.done)
            notice(f"{title or self.title}: {self.done}/{self.total}, {duration(left)} left")


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Bar]:
    """A bar on stderr for the body's duration, cleared when it ends."""
    if not sys.stderr.isatty() or _logger.disabled:
        yield Bar(title, total, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    tail = (TextColumn("time left"), TimeRemainingColumn(compact=True))
    console = Console(stderr=True)
    with Progress(*columns, *tail, console=console, transient=True) as progress:
        _live.append(progress)
        try:
            yield Bar(title, total, progress)
        finally:
            _live.pop()


def counted(number: int, thing: str) -> str:
    """A number of things: "1 label", "2,000 labels"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """`seconds` for people: "42 s", "3 min 05 s", "2 h 07 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


_live: list[Progress] = []
