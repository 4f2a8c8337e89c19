"""One thread runs the networks: images of all clients meet in one forward pass."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr_keras.data.images import Radiograph
from cxr_keras.inference.files import Prediction, Predictor
from cxr_keras.serving.web.problems import busy

MOST_IMAGES = 128  # that are read, wait or are predicted at a time
BATCH = 16  # images in a forward pass: larger ones are little faster and answer later
LINGER = 0.005  # seconds that the first image of a batch waits for others
_UNNAMED = Path()  # a client's name of a file stays with the request


@dataclass(eq=False)
class _Task:
    """What the thread is to do: an image of a network, or any other work with one."""

    work: Callable[[], Any] | None
    predictor: Predictor | None = None
    image: Radiograph | None = None
    answer: Future[Any] = field(default_factory=Future)
    came: float = field(default_factory=time.monotonic)


class Batcher:
    """The queue of what networks are to do, and the thread that does it.

    It holds no more than `MOST_IMAGES`: who asks for room beyond that is told to try again.

    Args:
        batch_done: is told the size of each batch.
    """

    def __init__(self, batch_done: Callable[[int], None] = lambda size: None):
        self._waiting: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._running: list[_Task] = []
        self._taken, self._worked = 0, False
        self._ending = self._ended = False
        self._batch_done = batch_done
        self._thread = threading.Thread(target=self._run, daemon=True, name="networks")
        self._thread.start()

    @property
    def taken(self) -> int:
        """Images that are read, wait or are predicted."""
        return self._taken

    @contextmanager
    def room(self, images: int) -> Iterator[None]:
        """Take room for images while the body runs.

        Raises:
            Problem: there is none.
        """
        with self._changed:
            if self._ending:
                raise busy("The server is ending.")
            if self._taken + images > MOST_IMAGES:
                raise busy(f"{self._taken} images are being answered; try again in a second.")
            self._taken += images
        try:
            yield
        finally:
            with self._changed:
                self._taken -= images
                self._changed.notify_all()

    def predict(self, predictor: Predictor, image: Radiograph) -> Future[Prediction]:
        """Predict a decoded image together with others that wait for the same network."""
        return self._put(_Task(None, predictor, image))

    def call(self, work: Callable[[], Any]) -> Future[Any]:
        """Do any other work with a network, on the thread that may use it."""
        return self._put(_Task(work))

    def end(self, seconds: float) -> None:
        """Take nothing more; what is not done in so many seconds is told so. Does not wait."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        late = threading.Timer(seconds, self._give_up)
        late.daemon = True
        late.start()

    def join(self, seconds: float) -> bool:
        """Wait for the end; whether it has come."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _give_up(self) -> None:
        """Tell all that waits or is under way that there is no time for it."""
        with self._changed:
            for task in (*self._waiting, *self._running):
                _fail(task, busy("The server ended before this was answered."))
            self._waiting.clear()
            self._ended = True
            self._changed.notify_all()

    def _put(self, task: _Task) -> Future[Any]:
        with self._changed:
            if not self._thread.is_alive():
                raise busy("The server is ending.")
            self._waiting.append(task)
            self._changed.notify_all()
        return task.answer

    def _run(self) -> None:
        while (tasks := self._next()) is not None:
            self._running = [one for one in tasks if one.answer.set_running_or_notify_cancel()]
            self._do(self._running)
            self._running = []

    def _next(self) -> list[_Task] | None:
        """What is done next; None at the end."""
        with self._changed:
            while self._is_open():
                waits = None
                if self._waiting:
                    waits = self._waiting[0].came + LINGER - time.monotonic()
                    if waits <= 0 or self._waiting[0].work or len(self._waiting) >= BATCH:
                        return self._take()
                self._changed.wait(waits)
            return None

    def _is_open(self) -> bool:
        """Whether there is or may come something to do."""
        needed = not self._ending or bool(self._waiting) or self._taken > 0
        return needed and not self._ended

    def _take(self) -> list[_Task]:
        """One other work, or all images of one network that fit into a batch.

        After other work, which may take long, images come first.
        """
        images = (task for task in self._waiting if task.work is None)
        first = (next(images, None) if self._worked else None) or self._waiting[0]
        self._waiting.remove(first)
        self._worked = first.work is not None
        if self._worked:
            return [first]
        same = [task for task in self._waiting if task.predictor is first.predictor][: BATCH - 1]
        for task in same:
            self._waiting.remove(task)
        return [first, *same]

    def _do(self, tasks: list[_Task]) -> None:
        if not tasks:
            return
        try:
            if tasks[0].work is not None:
                _answer(tasks[0], tasks[0].work())
                return
            assert tasks[0].predictor is not None
            images = [(_UNNAMED, task.image) for task in tasks if task.image is not None]
            rows = tasks[0].predictor.rows(images)
            for task, row in zip(tasks, rows, strict=True):
                _answer(task, row)
            self._batch_done(len(tasks))
        except Exception as error:  # one batch fails; the thread goes on with the next
            for task in tasks:
                _fail(task, error)


def _answer(task: _Task, result: Any) -> None:
    """Answer a task, unless it was given up."""
    with suppress(InvalidStateError):
        task.answer.set_result(result)


def _fail(task: _Task, error: Exception) -> None:
    """Tell a task why it has no answer, unless it has one or was cancelled."""
    with suppress(InvalidStateError):
        task.answer.set_exception(error)
