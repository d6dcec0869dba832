"""The API put together: `uvicorn --factory services.api.app:create_app`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request, Response

from services.api import errors
from services.api.dependencies import Ports
from services.api.endings import Endings
from services.api.errors import Problem
from services.api.routes import datasets, health, jobs, models, recipes, sources, uploads, versions
from services.api.settings import ApiSettings
from shared.database import make_engine, make_sessions
from shared.domain.dispatch import Dispatcher
from shared.queue import Queue
from shared.storage import Storage

MAX_BODY_BYTES = 20 * 1024 * 1024  # 10,000 files with long names

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        401: "no valid API key",
        404: "not in your workspace",
        409: "contradicts what is stored",
        422: "can never work as it stands",
        503: "a server behind the API is away; Retry-After says when to come again",
    }.items()
}


def create_app(settings: ApiSettings | None = None) -> FastAPI:
    """The app. Contacts nothing before it serves."""
    settings = settings or ApiSettings()
    app = FastAPI(
        title="Overtile",
        summary="Segments cells and nuclei in microscopy images of any size, seamlessly.",
        version="1",
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.middleware("http")(_admit)
    errors.install(app)
    app.include_router(health.router)
    for resource in (datasets, uploads, versions, sources, models, recipes, jobs):
        app.include_router(resource.router, responses=PROBLEMS)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: ApiSettings = app.state.settings
    engine, queue = make_engine(settings), Queue(settings)
    app.state.ports = Ports(
        engine=engine,
        sessions=make_sessions(engine),
        storage=Storage(settings),
        queue=queue,
        dispatcher=Dispatcher.from_settings(settings),
        endings=(endings := Endings(engine)),
    )
    listening = asyncio.create_task(endings.listen())
    yield
    listening.cancel()
    with suppress(asyncio.CancelledError):
        await listening
    queue.close()
    engine.dispose()


async def _admit(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    """Give each request an id that its answer and the log share; turn away bodies that no order needs."""
    request.state.request_id = uuid4().hex
    if "transfer-encoding" in request.headers:
        return errors.answer(request, HTTPStatus.LENGTH_REQUIRED, "send the body with a Content-Length")
    if int(request.headers.get("content-length", 0)) > MAX_BODY_BYTES:
        detail = f"a body may have {MAX_BODY_BYTES} bytes; split the list of files (images go to the upload URLs)"
        return errors.answer(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
    response = await go_on(request)
    response.headers["X-Request-Id"] = request.state.request_id
    return response
