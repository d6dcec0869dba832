"""Parameters that several resources have in common."""

from typing import Annotated

from fastapi import Path, Query

CursorQuery = Annotated[str | None, Query(description="`next_cursor` of the page before", max_length=200)]
LimitQuery = Annotated[int, Query(ge=1, le=100, description="rows of the page, at most")]
DEFAULT_LIMIT = 50
NumberPath = Annotated[int, Path(ge=1, lt=2**31, description="number of the version, from 1")]
