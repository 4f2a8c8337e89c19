"""The web server of `serve`: in this process on a real port, or as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time

import requests


class Client:
    """Asks a server on this machine.

    Attributes:
        url: without a slash at its end.
    """

    def __init__(self, port: int, token: str | None = None):
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path, **options):
        headers = self.headers | options.pop("headers", {})
        return requests.get(self.url + path, headers=headers, timeout=60, **options)

    def post(self, path, *files, field="files", **options):
        """POST files, each (name, bytes) or a path."""
        parts = [
            (field, one if isinstance(one, tuple) else (one.name, one.read_bytes()))
            for one in files
        ]
        headers = self.headers | options.pop("headers", {})
        return requests.post(
            self.url + path, files=parts or None, headers=headers, timeout=60, **options
        )


@contextlib.contextmanager
def serving(application):
    """An `Application` on a free port of this process; a client of it."""
    import uvicorn

    from cxr_keras.serving.web.server import bound, config_of

    listening = bound("127.0.0.1", 0)
    listening.listen()
    server = uvicorn.Server(config_of(application))
    server.capture_signals = contextlib.nullcontext
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield Client(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


def start_server(*arguments, **environment):
    """`cxr-keras serve …` on a free port; the process, a client, and the lines it has said."""
    command = [sys.executable, "-m", "cxr_keras", "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
    )
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
            threading.Thread(target=lambda: said.extend(process.stderr), daemon=True).start()
            return process, Client(int(found.group(1)), environment.get("CXR_KERAS_TOKEN")), said
    raise AssertionError("".join(said))


def wait_for(happens, seconds=30.0):
    """Return once `happens()` is true."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
