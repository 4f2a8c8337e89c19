"""Files of a request, in memory only, and no more of them than there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from cxr_keras.data.content import Content
from cxr_keras.serving.web.problems import Problem, busy

MB = 1 << 20
MOST_FILES = 32  # in a request
MOST_BYTES = 128 * MB  # of a request
MOST_BYTES_AT_ONCE = 512 * MB  # of all requests
PATIENCE = 20.0  # seconds without a byte after which a sender is given up
LONGEST = 300.0  # seconds that a request may take to arrive
_LONGEST_NAME = 255


class _InMemory(MultiPartParser):
    spool_max_size = MOST_BYTES + 1  # above that Starlette would write a temporary file


class Arrivals:
    """Reads the files of requests, and knows how much of them is in memory."""

    def __init__(self) -> None:
        self._bytes = 0

    @asynccontextmanager
    async def files(
        self, request: Request, field: str, most: int = MOST_FILES
    ) -> AsyncIterator[list[Content]]:
        """The files of a form's field, whole, which count as being in memory for the body's time.

        Raises:
            Problem: the request's length is not said, or too much; or see `_read`.
        """
        said = request.headers.get("content-length", "")
        if not (said.isascii() and said.isdigit()) or "transfer-encoding" in request.headers:
            raise Problem(
                411,
                "Say the length of the request in its header Content-Length, without "
                "Transfer-Encoding.",
            )
        length = int(said)
        if length > MOST_BYTES:
            raise Problem(
                413,
                f"A request may have {MOST_BYTES // MB} MB. Received: {length / MB:,.0f} MB. Send "
                "fewer files at a time.",
            )
        request.state.arrived = 0
        try:
            yield await self._read(request, field, most)
        finally:
            self._bytes -= request.state.arrived

    async def _read(self, request: Request, field: str, most: int) -> list[Content]:
        """The files of a form's field.

        Raises:
            Problem: it is no such form, has none or too many files, or does not arrive.
        """
        kind = request.headers.get("content-type", "")
        if not kind.lower().startswith("multipart/form-data"):
            raise Problem(
                415,
                f"Send images as a form, multipart/form-data, in the field {field!r}. Received: "
                f"{kind[:80] or 'no Content-Type'}.",
            )
        parser = _InMemory(
            request.headers,
            self._parts(request),  # type: ignore[arg-type]
            max_files=most,
            max_fields=0,
        )
        try:
            form = await parser.parse()
        except (MultiPartException, HTTPException, UnicodeError, ValueError) as error:
            words = getattr(error, "message", None) or getattr(error, "detail", None) or str(error)
            raise Problem(400, f"The form cannot be read: {words}") from error
        try:
            found = [file for file in form.getlist(field) if isinstance(file, UploadFile)]
            others = [name for name in form if name != field]
            if others or not found:
                what = f"the field {others[0][:80]!r}" if others else "no file"
                raise Problem(422, f"Send images in the field {field!r}. Received: {what}.")
            return [Content(_name_of(file), file.file.read()) for file in found]
        finally:
            await form.close()

    async def _parts(self, request: Request) -> AsyncIterator[bytes]:
        """The body, part by part, of a sender that goes on sending, while there is room for it."""
        loop = asyncio.get_running_loop()
        end = loop.time() + LONGEST
        parts = request.stream().__aiter__()
        while True:
            try:
                async with asyncio.timeout_at(min(loop.time() + PATIENCE, end)):
                    part = await anext(parts)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise Problem(408, "The request did not arrive in time.") from None
            if self._bytes + len(part) > MOST_BYTES_AT_ONCE:
                raise busy("Too many bytes are arriving; try again in a second.")
            request.state.arrived += len(part)
            self._bytes += len(part)
            yield part


def _name_of(file: UploadFile) -> str:
    """What a sender calls its file: to be said again, and never to be opened."""
    name = (file.filename or "image").replace("\\", "/").rsplit("/", 1)[-1][-_LONGEST_NAME:]
    return "".join(letter if letter.isprintable() else "?" for letter in name) or "image"
