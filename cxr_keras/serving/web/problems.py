"""Refusals and errors of the API in one shape: RFC 9457, application/problem+json."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        detail: a sentence: what was wrong, what was received, what to do.
        headers: of the answer, such as Retry-After.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}

    @property
    def body(self) -> bytes:
        """The answer's JSON."""
        said: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return json.dumps(said).encode()


def busy(detail: str, seconds: int = 1) -> Problem:
    """The server has no room: try again after so many seconds."""
    return Problem(503, detail, {"Retry-After": str(seconds)})
