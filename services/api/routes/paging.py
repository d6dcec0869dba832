"""The query of every list."""

from typing import Annotated

from fastapi import Query

CursorQuery = Annotated[str | None, Query(description="`next_cursor` of the page before", max_length=200)]
LimitQuery = Annotated[int, Query(ge=1, le=100, description="rows of the page, at most")]
DEFAULT_LIMIT = 50
