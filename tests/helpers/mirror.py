"""A real server on this machine that can be as unkind as the network."""

from __future__ import annotations

import hashlib
import http.server
import random
import socket
import struct
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

CONTENT = random.Random(1).randbytes(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Mirror(http.server.ThreadingHTTPServer):
    """Serves `files`; each request first takes one of `faults`, if any is left."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"file": CONTENT}
        self.faults: list[tuple[str, int]] = []
        self.requests: list[tuple[str, str | None]] = []
        self.ranges = True
        self.released = threading.Event()  # ends the silence of the fault "stall"
        self.url = f"http://127.0.0.1:{self.server_port}"

    def asked(self, name: str) -> list[str | None]:
        """The Range header of each request for `name`."""
        return [header for path, header in self.requests if path == name]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        name, header = urlsplit(self.path).path.strip("/"), self.headers["Range"]
        self.server.requests.append((name, header))
        kind, value = self.server.faults.pop(0) if self.server.faults else ("", 0)
        content = self.server.files.get(name)
        if kind == "status":
            return self.send_error(value)
        if content is None:
            return self.send_error(404)
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/{name}?signed=1")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start = int(header.removeprefix("bytes=").rstrip("-")) if header else 0
        if self.server.ranges and header and start >= len(content):
            return self.send_error(416)
        self._head(content, start if self.server.ranges else 0, kind, value)
        body = content[start:] if self.server.ranges else content
        return self._body(body, kind, value)

    def _head(self, content: bytes, start: int, kind: str, value: int) -> None:
        self.send_response(206 if start else 200)
        if start:
            shown = start - value if kind == "another range" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        if kind not in ("no length", "endless"):
            length = value if kind == "length" else len(content) - start
            self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "text/html" if kind == "page" else "application/x-tar")
        self.end_headers()

    def _body(self, body: bytes, kind: str, value: int) -> None:
        try:
            if kind in ("cut", "reset"):
                self.wfile.write(body[:value])
                self.wfile.flush()
                if kind == "reset":  # closing then sends RST instead of FIN
                    time.sleep(0.05)
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif kind in ("slow", "stall"):
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.server.released.wait(value / 1000 if kind == "slow" else None)
                self.wfile.write(body[len(body) // 2 :])
            else:
                self.wfile.write(body)
            while kind == "endless":
                self.wfile.write(body)
        except OSError:
            pass  # the client has gone, as it may
        self.close_connection = True


def part_of(path: Path) -> Path:
    """Where what came of a file lies until it is whole."""
    return path.with_name(path.name + ".part")
