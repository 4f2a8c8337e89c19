"""Who is answered: checks before anything of a request is read, and headers of every answer.

A page of another site that is open in the same browser must not use this server (cross-site
requests, DNS rebinding), and nobody without the token where one is demanded.
"""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxr_keras.serving.web.problems import MEDIA_TYPE, Problem

API = "/v1/"
OPEN = ("/healthz",)  # to anybody who reaches the server
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
REFUSALS, WITHIN = 60, 60.0  # of an address, in so many seconds, each with its sentence
_ADDRESSES = 1024  # that are remembered


class Safety:
    """ASGI middleware around the whole application.

    Args:
        app: what is kept safe.
        hosts: names and addresses by which it may be called.
        token: that requests of the API must show; None for none.
        pages: paths that are open without it: the page itself, which holds nothing.
        answered: is told the path and the status of each answer, and the seconds it took.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str],
        token: str | None,
        pages: Iterable[str],
        answered: Callable[[str, int, float], None],
    ):
        self._app, self._token, self._answered = app, token, answered
        self._hosts = {host.lower() for host in hosts}
        self._pages = frozenset((*pages, *OPEN))
        self._refused: OrderedDict[str, deque[float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                self._answered(scope["path"], message["status"], time.monotonic() - begun)
                if 400 <= message["status"] < 500:
                    self._note(_address(scope))
            await send(message)

        try:
            self._check(scope)
        except Problem as problem:
            await send_problem(self._short(problem, _address(scope)), send_safely)
            return
        await self._app(scope, receive, send_safely)

    def _check(self, scope: Scope) -> None:
        """Refuse a request that must not be answered.

        Raises:
            Problem: it is one.
        """
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if name_of(host) not in self._hosts:
            raise Problem(
                421,
                f"This server is not called {host[:80]!r}. Use the address that it says when it "
                "starts, or start it with --allow-host NAME.",
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host.lower():
            raise Problem(403, "Pages of other sites may not use this server.")
        if headers.get("sec-fetch-site") == "cross-site" and scope["path"].startswith(API):
            raise Problem(403, "Pages of other sites may not use this server.")
        if self._token is not None and scope["path"] not in self._pages:
            kind, _, shown = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(shown.strip().encode(), self._token.encode())
            if kind.lower() != "bearer" or not right:
                raise Problem(
                    401,
                    "This server asks for its token: send the header Authorization: Bearer TOKEN.",
                    {"WWW-Authenticate": "Bearer"},
                )

    def _note(self, address: str) -> None:
        times = self._refused.setdefault(address, deque(maxlen=REFUSALS))
        self._refused.move_to_end(address)
        times.append(time.monotonic())
        if len(self._refused) > _ADDRESSES:
            self._refused.popitem(last=False)

    def _short(self, problem: Problem, address: str) -> Problem:
        """The refusal, or 429 for an address that was refused too often."""
        times = self._refused.get(address, deque())
        if len(times) < REFUSALS or time.monotonic() - times[0] > WITHIN:
            return problem
        wait = max(1, round(WITHIN - (time.monotonic() - times[0])))
        return Problem(429, "Too many refused requests.", {"Retry-After": str(wait)})


async def send_problem(problem: Problem, send: Send) -> None:
    """Answer with a problem."""
    length = str(len(problem.body))
    headers = {"content-type": MEDIA_TYPE, "content-length": length} | problem.headers
    # what it may still send is not read
    headers["connection"] = "close"
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": problem.body})


def name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach a server at this address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
