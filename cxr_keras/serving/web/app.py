"""The HTTP application: the page, and the API under /v1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cxr_keras import __version__
from cxr_keras.data.content import Content, ImageFile
from cxr_keras.data.images import image_size, read_radiograph, read_whole
from cxr_keras.errors import CxrError, ImageError
from cxr_keras.inference.dicom_answers import RESEARCH
from cxr_keras.inference.files import Prediction
from cxr_keras.inference.options import GRAD_CAM, METHODS
from cxr_keras.serving.web import schema
from cxr_keras.serving.web.batching import Batcher
from cxr_keras.serving.web.counts import Counts
from cxr_keras.serving.web.known import KnownImages
from cxr_keras.serving.web.log import ErrorLog
from cxr_keras.serving.web.pictures import LONGEST_SIDE, as_png
from cxr_keras.serving.web.problems import MEDIA_TYPE, Problem
from cxr_keras.serving.web.results import to_json
from cxr_keras.serving.web.safety import Safety
from cxr_keras.serving.web.served import Served
from cxr_keras.serving.web.uploads import MOST_BYTES, MOST_FILES, Arrivals
from cxr_keras.utils.threads import usable_cores

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_UNREAD = (408, 411, 413, 415, 503)  # answers before the request was read: no more of it is
Result = TypeVar("Result")
RunName = Annotated[str | None, Query(alias="run", description="its name; the first by default")]
Method = Annotated[str, Query(description=f"of the heat map: {', '.join(METHODS)}")]
Row = Annotated[int, Query(ge=0, description="place of the image in the run's test split")]
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
MAP: dict[int | str, dict[str, Any]] = PNG | {
    204: {"description": "An empty map: nothing in the layer speaks for the label."}
}


class Application:
    """What answers requests: the networks, their queue, and what is counted.

    Args:
        served: the networks.
        hosts: names and addresses by which the server may be called.
        token: that the API demands; None for none.
        truth: what is known of images by their names; None for nothing.
    """

    def __init__(
        self,
        served: Iterable[Served],
        *,
        hosts: Iterable[str],
        token: str | None = None,
        truth: KnownImages | None = None,
    ):
        self._runs = {one.name: one for one in served}
        self._truth, self._log, self._arrivals = truth, ErrorLog(), Arrivals()
        self.batcher = Batcher(lambda size: self._counts.batch(size))
        # what clients send is decoded apart, so that it does not hold up what is at hand
        self._decoders = ThreadPoolExecutor(usable_cores(), thread_name_prefix="decoder")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="reader")
        pages = _pages()
        api = self._api()
        for path, (content, kind) in pages.items():
            api.add_api_route(path, _static(content, kind), include_in_schema=False)
        paths = frozenset(route.path for route in api.routes if hasattr(route, "path"))
        self._counts = Counts(paths, lambda: self.batcher.taken)
        self.asgi = Safety(
            api, hosts=hosts, token=token, pages=pages, answered=self._counts.answered
        )

    def _api(self) -> FastAPI:
        problem = {"model": schema.ProblemDetails, "content": {MEDIA_TYPE: {}}}
        api = FastAPI(
            title="cxr-keras",
            version=__version__,
            summary="Predictions of chest radiographs.",
            description=RESEARCH,
            docs_url=None,  # both fetch scripts from other hosts
            redoc_url=None,
            lifespan=self._lifespan,
            redirect_slashes=False,
            responses={"4XX": problem, "503": problem},
        )
        kinds = (Problem, CxrError, RequestValidationError, HTTPException, ClientDisconnect)
        for kind in (*kinds, Exception):
            api.add_exception_handler(kind, self._refused)
        get, post = api.get, api.post
        form = schema.form_of
        get("/healthz", summary="Whether the server answers.")(self.health)
        get("/metrics", summary="Counters, in Prometheus's format.")(self.metrics)
        get("/v1/model", summary="The networks.", response_model=schema.Model)(self.model)
        post(
            "/v1/predict",
            summary="Predict images.",
            response_model=schema.Predictions,
            openapi_extra=form("files", several=True),
        )(self.predict)
        post(
            "/v1/image",
            summary="An image as a viewer shows it.",
            response_class=Response,
            responses=PNG,
            openapi_extra=form("file", several=False),
        )(self.image)
        post(
            "/v1/heatmap",
            summary="A heat map of an image: grey, over the whole image.",
            response_class=Response,
            responses=MAP,
            openapi_extra=form("file", several=False),
        )(self.heatmap)
        get("/v1/results", summary="A run's predictions of its test split.")(self.results)
        image, heat = "An image of the test split.", "A heat map of one."
        get("/v1/results/image", summary=image, response_class=Response, responses=PNG)(
            self.split_image
        )
        get("/v1/results/heatmap", summary=heat, response_class=Response, responses=MAP)(
            self.split_heatmap
        )
        get("/v1/results/boxes", summary="Boxes of one.", response_model=schema.Boxes)(
            self.split_boxes
        )
        return api

    @asynccontextmanager
    async def _lifespan(self, api: FastAPI) -> AsyncIterator[None]:
        yield
        self.batcher.end(0)
        for pool in (self._readers, self._decoders):
            pool.shutdown(wait=False, cancel_futures=True)

    async def health(self) -> dict[str, str]:
        """The server answers."""
        return {"status": "ok"}

    async def metrics(self) -> Response:
        """Counters."""
        return Response(self._counts.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def model(self) -> JSONResponse:
        """The networks: labels, thresholds, limits, what they were trained on, their numbers."""
        runs = [one.about for one in self._runs.values()]
        return JSONResponse(
            {
                "version": __version__,
                "notice": RESEARCH,
                "methods": list(METHODS),
                "max_files": MOST_FILES,
                "max_bytes": MOST_BYTES,
                "runs": runs,
            }
        )

    async def predict(self, request: Request, run: RunName = None) -> JSONResponse:
        """Predict images; one that cannot be read is a result with its error."""
        served = self._served(run)
        async with self._arrivals.files(request, "files") as files:
            with self.batcher.room(len(files)):
                results = await asyncio.gather(*(self._result(served, file) for file in files))
        return JSONResponse({"run": served.name, "results": results})

    async def _result(self, served: Served, file: Content) -> dict[str, Any]:
        try:
            image = await self._decoded(read_radiograph, file, served.card.framing)
        except ImageError as error:
            self._counts.image(served.name, "unreadable")
            reason = str(error).removeprefix(f"{file.name}: ")
            return served.row(file.name, Prediction(Path(), error=reason), None)
        found = await asyncio.wrap_future(self.batcher.predict(served.predictor, image))
        strange = "unlike_training" if found.unlike_training else "predicted"
        self._counts.image(served.name, strange)
        known = None if self._truth is None else self._truth.truth_of(file.name)
        return served.row(file.name, found, known)

    async def image(self, request: Request) -> Response:
        """A grey PNG of the whole image; of a larger one, scaled to 2,048 pixels."""
        async with self._arrivals.files(request, "file", most=1) as (file,):
            return await self._shown(file)

    async def heatmap(
        self, request: Request, label: str, run: RunName = None, method: Method = GRAD_CAM
    ) -> Response:
        """A grey PNG to be stretched over the whole image, white where the map is highest."""
        served = self._served(run)
        served.check_map(label, method)
        async with self._arrivals.files(request, "file", most=1) as (file,):
            return await self._heat(request, served, file, label, method)

    async def results(self, run: RunName = None) -> JSONResponse:
        """Probabilities, truth, and the tables of `evaluate`, all of the split in one answer."""
        served = self._served(run)
        if served.results is None:
            raise Problem(
                404, f"{served.name} is a file on its own: its run folder has the test split."
            )
        content = await self._read(to_json, served.results, served.card)
        known = await self._read(lambda: served.known)
        first = content["images"]["image"][0]
        here = known is not None and known.file_of(first) is not None
        found = {"run": served.name} | content | {"images_here": here}
        return await self._read(JSONResponse, found)  # writes it, megabytes of a large split

    async def split_image(self, row: Row, run: RunName = None) -> Response:
        """A grey PNG of the whole image."""
        _, file = await self._read(self._served(run).split_image, row)
        return await self._shown(file)

    async def split_heatmap(
        self, request: Request, row: Row, label: str, run: RunName = None, method: Method = GRAD_CAM
    ) -> Response:
        """A grey PNG to be stretched over the whole image, white where the map is highest."""
        served = self._served(run)
        served.check_map(label, method)
        _, file = await self._read(served.split_image, row)
        return await self._heat(request, served, file, label, method)

    async def split_boxes(self, row: Row, run: RunName = None) -> JSONResponse:
        """The boxes that its data set has of the image."""
        served = self._served(run)
        name, _ = await self._read(served.split_image, row)
        assert served.known is not None
        return JSONResponse({"boxes": served.known.boxes_of(name)})

    async def _shown(self, file: ImageFile) -> Response:
        with self.batcher.room(1):
            return await self._png(await self._decoded(read_whole, file, LONGEST_SIDE))

    async def _heat(
        self, request: Request, served: Served, file: ImageFile, label: str, method: str
    ) -> Response:
        with self.batcher.room(1):
            image = await self._decoded(read_radiograph, file, served.card.framing)
            size = await self._decoded(image_size, file)
            work = self.batcher.call(lambda: served.heat_map(image.pixels, size, label, method))
            waiting = asyncio.wrap_future(work)
            while not (await asyncio.wait([waiting], timeout=0.5))[0]:
                if await request.is_disconnected():  # nobody waits for it any more
                    waiting.cancel()
                    raise Problem(408, "The sender has left.")
            heat = waiting.result()
            return Response(status_code=204) if heat is None else await self._png(heat)

    async def _png(self, grey: np.ndarray) -> Response:
        return Response(await self._decoded(as_png, grey), media_type="image/png")

    def _served(self, name: str | None) -> Served:
        if name is None:
            return next(iter(self._runs.values()))
        if name not in self._runs:
            raise Problem(
                404, f"There is no run {name[:80]!r}. There are: {', '.join(self._runs)}."
            )
        return self._runs[name]

    async def _decoded(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Decode or encode an image."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders, function, *arguments)

    async def _read(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Do what is slow and needs no network, beside other requests."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, function, *arguments)

    async def _refused(self, request: Request, error: Exception) -> Response:
        """The one shape of every error."""
        if isinstance(error, RequestValidationError):
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"][1:])
            error = Problem(422, f"{where}: {first['msg']}.")
        elif isinstance(error, HTTPException):
            said = f"{error.detail}: {request.method} {request.url.path[:80]!r}. /openapi.json"
            said += " describes what there is."
            error = Problem(error.status_code, said, dict(error.headers or {}))
        elif isinstance(error, CxrError):
            error = Problem(422, str(error))
        elif isinstance(error, ClientDisconnect):
            error = Problem(408, "The sender has left.")
        elif not isinstance(error, Problem):
            self._log.unexpected(request.url.path, error)
            error = Problem(500, "This is an error of the server; its log says which kind.")
        unread = {"Connection": "close"} if error.status in _UNREAD else {}
        return Response(error.body, error.status, error.headers | unread, MEDIA_TYPE)


def _pages() -> dict[str, tuple[bytes, str]]:
    """Path → content and media type of the page's files, read once: no request opens a path."""
    files = {f"/{file.name}": file for file in sorted(STATIC.iterdir()) if file.suffix in _TYPES}
    files["/"] = STATIC / "index.html"
    return {path: (file.read_bytes(), _TYPES[file.suffix]) for path, file in files.items()}


def _static(content: bytes, kind: str) -> Callable[[], Any]:
    async def page() -> Response:
        return Response(content, media_type=kind)

    return page
