"""The way in: `Client`."""

import os
from types import TracebackType
from typing import Self

import httpx

from overtile.backoff import Backoff
from overtile.clock import Clock
from overtile.datasets import Datasets
from overtile.errors import ConfigurationError
from overtile.jobs import Jobs
from overtile.models import Models
from overtile.recipes import Recipes
from overtile.transport import Transport


class Client:
    """One workspace of one platform, as its API key sees it. Safe to share between threads.

    `url` and `api_key` default to the environment's OVERTILE_URL and OVERTILE_API_KEY.
    Raises ConfigurationError if one is missing or cannot be right; no request is made yet.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None, *, clock: Clock | None = None) -> None:
        address = _checked_url(_given(url, "url", "OVERTILE_URL"))
        key = _checked_key(_given(api_key, "api_key", "OVERTILE_API_KEY"))
        self._transport = Transport(address, key, backoff=Backoff(clock or Clock()))
        self.datasets = Datasets(self._transport)
        self.jobs = Jobs(self._transport)
        self.models = Models(self._transport)
        self.recipes = Recipes(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._transport.url!r})"  # never the key

    def close(self) -> None:
        """Closes the connections; the client is of no use afterwards."""
        self._transport.close()


def _given(value: str | None, argument: str, variable: str) -> str:
    found = (value or os.environ.get(variable, "")).strip()  # keys are often read from a file, line end included
    if not found:
        raise ConfigurationError(f"the client needs {argument}=…, or {variable} in the environment")
    return found


def _checked_url(url: str) -> str:
    fault = ConfigurationError(f"{url!r} is no URL of an API; one looks like http://127.0.0.1:8000")
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise fault from error
    if parts.scheme not in ("http", "https") or not parts.host:
        raise fault
    return url


def _checked_key(key: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("the API key holds characters that no key has; was it copied whole?")
    return key
