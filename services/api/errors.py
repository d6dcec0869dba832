"""The one table from errors to answers, as problem+json (RFC 9457)."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from shared.errors import Conflict, Invalid, NotFound, OvertileError, Unauthenticated, Unavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
STATUS: dict[type[Exception], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Problem(BaseModel):
    """Every error the API answers with."""

    type: str = Field("about:blank", examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no job 7c9e6679-7425-40de-944b-e07fc1f90ae7 in your workspace"])
    instance: str = Field(examples=["/v1/jobs/7c9e6679-7425-40de-944b-e07fc1f90ae7"])
    request_id: str = Field(description="name it when you report the problem")
    errors: list[dict[str, Any]] | None = Field(None, description="of a request that does not fit: where and why")


def install(app: FastAPI) -> None:
    """Make every error of the app a problem."""
    app.add_exception_handler(OvertileError, _answer_ours)
    app.add_exception_handler(RequestValidationError, _answer_unfit)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(OperationalError, _answer_database)
    app.add_exception_handler(InterfaceError, _answer_database)
    app.add_exception_handler(PoolTimeoutError, _answer_database)
    app.add_exception_handler(Exception, _answer_bug)


def _answer_ours(request: Request, error: Exception) -> JSONResponse:
    status = STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
    return answer(request, status, str(error))


def _answer_unfit(request: Request, error: Exception) -> JSONResponse:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    faults = [{"where": ".".join(map(str, e["loc"])), "why": e["msg"]} for e in found]
    detail = "; ".join(f"{fault['where']}: {fault['why']}" for fault in faults[:5])
    return answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=faults)


def _answer_http(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    return answer(request, HTTPStatus(status), str(getattr(error, "detail", error)))


def _answer_database(request: Request, error: Exception) -> JSONResponse:
    log.warning("request %s: the database did not answer: %s", request.state.request_id, error)
    return answer(request, HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer; try again shortly")


def _answer_bug(request: Request, error: Exception) -> JSONResponse:
    log.error("request %s failed", request.state.request_id, exc_info=error)
    return answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, "this is a fault of the platform; it has been logged")


def answer(
    request: Request, status: HTTPStatus, detail: str, *, errors: list[dict[str, Any]] | None = None
) -> JSONResponse:
    """The problem as an answer."""
    problem = Problem(
        title=status.phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        request_id=request.state.request_id,
        errors=errors,
    )
    headers = {"X-Request-Id": request.state.request_id}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_SECONDS)
    content = jsonable_encoder(problem.model_dump(exclude_none=True))
    return JSONResponse(content, status_code=status, headers=headers, media_type=MEDIA_TYPE)
