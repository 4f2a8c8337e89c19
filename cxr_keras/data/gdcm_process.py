"""JPEG lossless, which GDCM alone decodes here, in a process beside this one.

GDCM may abort at a damaged file, and takes its process with it: then it is another one's. The child
is this module, run; it takes the contents of files, and answers each with an array or nothing.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np

from cxr_keras.data.content import Content
from cxr_keras.errors import ImageError

_PATIENCE_S = 120.0  # for one image; whatever takes longer hangs
_LENGTH_BYTES = 8


class _Child:
    """The child process; one image at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def decode(self, content: bytes) -> np.ndarray:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    # -P: nothing is imported from the folder one stands in, which may hold films
                    [sys.executable, "-P", "-m", "cxr_keras.data.gdcm_process"],
                    env=os.environ | {"PYTHONPATH": _with_this_package()},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
                atexit.register(self._ended)
            process = self._process
            watchdog = threading.Timer(_PATIENCE_S, process.kill)
            watchdog.start()
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                send(process.stdin, content)
                answer = received(process.stdout)
            except OSError:
                answer = b""
            except BaseException:  # its answer would be taken for the next one's
                self._ended()
                raise
            finally:
                watchdog.cancel()
            if not answer:
                with suppress(subprocess.TimeoutExpired):  # one that has died is not asked again
                    process.wait(0.2)
        if not answer:
            raise ImageError("its pixels cannot be decoded: the compressed image is damaged.")
        return np.asarray(np.load(BytesIO(answer), allow_pickle=False))

    def _ended(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


_child = _Child()


def decode(content: bytes) -> np.ndarray:
    """The stored values of the image in a DICOM file, given its bytes: (rows, columns).

    Raises:
        ImageError: it cannot be decoded, whatever became of the process that tried.
    """
    return _child.decode(content)


def _with_this_package() -> str:
    """PYTHONPATH, with the folder that holds this package, which may not be installed."""
    here = str(Path(__file__).parents[2])
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))


def send(stream: IO[bytes], content: bytes) -> None:
    """Write a message: its length, and itself."""
    stream.write(len(content).to_bytes(_LENGTH_BYTES, "big"))
    stream.write(content)
    stream.flush()


def received(stream: IO[bytes]) -> bytes:
    """The message that the other side wrote; nothing where it wrote none, or died."""
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "big")
    content = stream.read(length)
    return content if len(content) == length else b""


def _serve(asked: IO[bytes], answers: IO[bytes]) -> None:
    from cxr_keras.data.dicom import read_dataset

    while content := received(asked):
        buffer = BytesIO()
        try:
            dataset = read_dataset(Content("the file", content))
            dataset.pixel_array_options(decoding_plugin="gdcm")
            np.save(buffer, dataset.pixel_array, allow_pickle=False)
        except Exception:
            buffer = BytesIO()
        send(answers, buffer.getvalue())


if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what GDCM prints must not go among the answers
    _serve(sys.stdin.buffer, out)
