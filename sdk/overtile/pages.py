"""Lists that come in pages, read as one."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from overtile.errors import UnexpectedAnswer
from overtile.shapes import Page
from overtile.transport import Query, Transport

T = TypeVar("T")

ROWS = 100  # of a page; the most the API gives


def walk(
    transport: Transport, path: str, page: type[Page[T]], *, query: Mapping[str, Query] | None = None
) -> Iterator[T]:
    """Every item of a list; a page is asked for only when the one before is used up."""
    cursor: str | None = None
    while True:
        answer = transport.get(path, page, {**(query or {}), "limit": ROWS, "cursor": cursor})
        yield from answer.items
        if answer.next_cursor is None:
            return
        if answer.next_cursor == cursor:
            raise UnexpectedAnswer(f"{path} names the same page as its own successor")
        cursor = answer.next_cursor
