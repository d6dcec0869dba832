"""HTTP, and nothing else: one connection pool, the key, the retries, and errors as exceptions."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from overtile.backoff import Backoff, parse_retry_after
from overtile.errors import ApiError, ConnectionFailed, StoreError, UnexpectedAnswer, class_for
from overtile.version import __version__

ShapeT = TypeVar("ShapeT", bound=BaseModel)
Query = str | int | float | None

TIMEOUT = httpx.Timeout(120.0, connect=10.0, pool=None)  # seconds without a byte, not for the whole transfer
LOOPBACK = ("all://127.0.0.1", "all://localhost", "all://[::1]")
DETAIL_LENGTH = 300  # characters of an answer that is no problem document


class Transport:
    """Talks to one API, and to the object store its presigned URLs lead to. Safe to share between threads."""

    def __init__(self, url: str, api_key: str, *, backoff: Backoff) -> None:
        self.url = url.rstrip("/")
        self.backoff = backoff
        self._key = api_key
        self._http = httpx.Client(
            timeout=TIMEOUT,
            headers={"User-Agent": f"overtile-python/{__version__}"},
            mounts=dict.fromkeys(LOOPBACK),  # a platform on this machine is never behind the company's proxy
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def get(self, path: str, shape: type[ShapeT], query: Mapping[str, Query] | None = None) -> ShapeT:
        """GET from the API. Entries of `query` that are None are left out."""
        return self._call("GET", path, shape, {"params": _without_nones(query or {})}, repeatable=True)

    def post(
        self,
        path: str,
        shape: type[ShapeT],
        *,
        body: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        repeatable: bool = False,
    ) -> ShapeT:
        """POST to the API. Repeated after a failure if it carries a key, or is `repeatable`: twice is as once."""
        options: dict[str, Any] = {"headers": {"Idempotency-Key": idempotency_key} if idempotency_key else {}}
        if body is not None:
            options["json"] = to_jsonable_python(body)
        return self._call("POST", path, shape, options, repeatable=repeatable or idempotency_key is not None)

    def replace(self, path: str, shape: type[ShapeT], *, body: Mapping[str, Any]) -> ShapeT:
        """PUT to the API: make it so. Repeated after a failure."""
        return self._call("PUT", path, shape, {"json": to_jsonable_python(body)}, repeatable=True)

    def delete(self, path: str, shape: type[ShapeT]) -> ShapeT:
        """DELETE from the API, which answers what is left. Repeated after a failure."""
        return self._call("DELETE", path, shape, {}, repeatable=True)

    def remove(self, path: str) -> None:
        """DELETE from the API, which answers nothing. Not repeated if it may have arrived."""
        self._request("DELETE", path, {}, repeatable=False)

    def put(self, url: str, body: Callable[[], Iterator[bytes]], *, size: int) -> None:
        """PUT `size` bytes to a presigned URL; `body` is called anew for each attempt."""

        def attempt() -> None:
            with _reaching(url):
                # The length is sent because stores refuse chunked bodies; the key is not, the URL is all they may know.
                response = self._http.put(url, content=body(), headers={"Content-Length": str(size)})
            _check_store(response, url)

        self.backoff.run(attempt, repeatable=True)

    def fetch(self, url: str, keep: Callable[[Iterator[bytes]], None]) -> None:
        """GET a presigned URL and hand the stream to `keep`, anew for each attempt."""

        def attempt() -> None:
            # Identity: the checksum is that of the stored bytes, not of what a proxy compressed on the way.
            headers = {"Accept-Encoding": "identity"}
            with _reaching(url), self._http.stream("GET", url, headers=headers) as response:
                if not response.is_success:
                    response.read()
                _check_store(response, url)
                keep(response.iter_raw())

        self.backoff.run(attempt, repeatable=True)

    def _call(
        self, method: str, path: str, shape: type[ShapeT], options: dict[str, Any], *, repeatable: bool
    ) -> ShapeT:
        return _parse(self._request(method, path, options, repeatable=repeatable), shape)

    def _request(self, method: str, path: str, options: dict[str, Any], *, repeatable: bool) -> httpx.Response:
        headers = {**options.pop("headers", {}), "Authorization": f"Bearer {self._key}", "Accept": "application/json"}
        url = self.url + path

        def attempt() -> httpx.Response:
            with _reaching(url):
                response = self._http.request(method, url, headers=headers, **options)
            if not response.is_success:
                raise _api_error(response)
            return response

        return self.backoff.run(attempt, repeatable=repeatable)


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Turns a failing connection into `ConnectionFailed`."""
    server = urlsplit(url)
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        message = f"cannot reach {server.scheme}://{server.netloc}: {error or 'timed out'}; is it running?"
        raise ConnectionFailed(message, sent=False) from error
    except httpx.RequestError as error:
        reason = str(error) or type(error).__name__
        raise ConnectionFailed(f"{server.scheme}://{server.netloc} did not answer: {reason}", sent=True) from error


def _parse(response: httpx.Response, shape: type[ShapeT]) -> ShapeT:
    try:
        return shape.model_validate_json(response.content)
    except ValidationError as error:
        raise UnexpectedAnswer(
            f"{response.request.url.copy_with(query=None)} does not answer like the Overtile API; is the URL right?"
        ) from error


def _api_error(response: httpx.Response) -> ApiError:
    problem = _problem(response)
    detail = problem.get("detail") or problem.get("title") or _plain_detail(response)
    request_id = problem.get("request_id") or response.headers.get("x-request-id")
    return class_for(response.status_code)(
        str(detail),
        status=response.status_code,
        request_id=str(request_id) if request_id else None,
        after=parse_retry_after(response.headers.get("retry-after")),
    )


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _plain_detail(response: httpx.Response) -> str:
    if "location" in response.headers:
        return f"redirected to {response.headers['location']}; use that URL"
    return response.text.strip()[:DETAIL_LENGTH] or response.reason_phrase


def _check_store(response: httpx.Response, url: str) -> None:
    if response.is_success:
        return
    place = urlsplit(url)._replace(query="", fragment="").geturl()  # the query holds the signature: not for messages
    raise StoreError(
        f"the object store refused {response.request.method} {place}: {_plain_detail(response)}",
        status=response.status_code,
        after=parse_retry_after(response.headers.get("retry-after")),
    )


def _without_nones(query: Mapping[str, Query]) -> dict[str, str | int | float]:
    return {name: value for name, value in query.items() if value is not None}
