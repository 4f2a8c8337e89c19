"""`serve`: the application on a port, until Ctrl-C."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from cxr_keras.errors import CxrError
from cxr_keras.inference.options import FULL, Precision
from cxr_keras.serving.options import HOST, TOKEN_LETTERS, TOKEN_VARIABLE, WEB_PORT
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice

if TYPE_CHECKING:
    import uvicorn

    from cxr_keras.serving.web.app import Application
    from cxr_keras.serving.web.batching import Batcher

_PACKAGES = ("fastapi", "prometheus_client", "python_multipart", "uvicorn")
EXTRA = 'pip install "cxr-keras[serve]"'
_LOCAL = ("127.0.0.1", "localhost", "::1")
_ANY = ("0.0.0.0", "::", "")  # of all networks: no name by which one calls a server
_LAST = 1.5  # seconds after Ctrl-C in which what was accepted is answered
_CONNECTIONS = 256
REQUEST_WITHIN = 10.0  # seconds in which the first request of a connection has begun


def serve(
    runs: Iterable[Path],
    *,
    host: str = HOST,
    port: int = WEB_PORT,
    token: str | None = None,
    allow_hosts: Iterable[str] = (),
    truth: PathLike | None = None,
    precision: Precision = FULL,
) -> None:
    """Serve networks until Ctrl-C.

    Args:
        runs: run folders, `.keras` or `.onnx` files.
        host: the address to listen on; one that other machines reach needs a token.
        port: 0 takes a free one.
        token: what requests of the API must show.
        allow_hosts: further names by which the server may be called, such as that of a proxy.
        truth: a data folder: of images of its names, answers hold its labels and boxes, too.
        precision: what networks compute in.

    Raises:
        CxrError: the extra serve is not installed, the port cannot be had, or a token is missing.
        ModelError: a network cannot be used.
        DataError: `truth` is no data folder.
    """
    check_installed()
    from cxr_keras.serving.web.app import Application
    from cxr_keras.serving.web.known import KnownImages
    from cxr_keras.serving.web.safety import is_loopback, name_of
    from cxr_keras.serving.web.served import open_runs

    if not is_loopback(host) and not token:
        raise CxrError(
            f"Other machines can reach {host or 'all addresses'}: give a --token that requests "
            f"must show (or set ${TOKEN_VARIABLE}), and put a server with TLS in front, for "
            "neither the token nor the images are encrypted here."
        )
    if token is not None and (len(token) < TOKEN_LETTERS or not _is_word(token)):
        raise CxrError(
            f"A token has at least {TOKEN_LETTERS} ASCII letters and digits without blanks. "
            f"Received: {len(token)} letters. Make one: python -c 'import secrets; "
            "print(secrets.token_urlsafe())'"
        )
    listening = bound(host, port)
    known = None if truth is None else KnownImages((Path(truth),))
    served = open_runs(runs, precision)
    hosts = {*_LOCAL, *map(name_of, allow_hosts), *([] if host in _ANY else [host])}
    application = Application(served, hosts=hosts, token=token, truth=known)
    for one in served:
        one.opened.say_limits()
    if not is_loopback(host):
        notice(
            "Neither the token nor the images are encrypted: put a server with TLS in front "
            "(and name it with --allow-host)."
        )
    listening.listen(_CONNECTIONS)  # whoever comes at once is answered as soon as it runs
    shown = "127.0.0.1" if host in _ANY else f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listening.getsockname()[1]}/"
    notice(f"{', '.join(one.name for one in served)}: {url} (research only). Ctrl-C ends it.")
    # so long whoever answers waits for a thread that computes, at every step of it (usually 5 ms)
    sys.setswitchinterval(0.0005)
    with suppress(KeyboardInterrupt):  # which uvicorn raises again once it has ended
        _server(config_of(application), application.batcher).run(sockets=[listening])
    notice("Ended.")
    if not application.batcher.join(0.5):
        sys.stderr.flush()
        os._exit(0)  # a network still computes what nobody waits for; torch would abort


def config_of(application: Application) -> uvicorn.Config:
    """How uvicorn runs an application."""
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(H11Protocol):
        """Closes a connection on which no request comes."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(REQUEST_WITHIN, self._close_unused)

        def _close_unused(self) -> None:
            request: Any = self.cycle
            if request is None and not self.transport.is_closing():
                self.transport.close()

    return uvicorn.Config(
        application.asgi,
        http=Protocol,
        ws="none",
        log_level="critical",  # a traceback could say what a client sent; see `log`
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=32 * 1024,
    )


def _server(config: uvicorn.Config, batcher: Batcher) -> uvicorn.Server:
    """A server that at Ctrl-C takes nothing more and answers what it has accepted."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            batcher.end(_LAST)
            super().handle_exit(sig, frame)

    return Server(config)


def bound(host: str, port: int) -> socket.socket:
    """A socket on the address, taken before networks are loaded."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise CxrError(
            f"Port {port} of {host} cannot be listened on: {error.strerror or error}. Give "
            "another --port; 0 takes a free one."
        ) from error
    return listening


def _is_word(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def check_installed() -> None:
    """Stop where the extra is not installed.

    Raises:
        CxrError: it, or a part of it, is not.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise CxrError(f"serve needs {missing[0]}, of the extra serve: {EXTRA}.")
