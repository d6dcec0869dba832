"""Lists in pages. A cursor is where the last page ended, so that new rows never shift the next page."""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from shared.errors import Invalid
from shared.tables.base import Owned

Row = TypeVar("Row", bound=Owned)


def newest_first(
    session: Session, query: Select[Row], *, row: type[Row], cursor: str | None, limit: int
) -> tuple[Sequence[Row], str | None]:
    """One page of `query` (of table `row`) and the cursor of the next page, None at the end."""
    place = tuple_(row.created_at, row.id)
    if cursor is not None:
        query = query.where(place < tuple_(*_read(cursor)))
    rows = session.scalars(query.order_by(row.created_at.desc(), row.id.desc()).limit(limit + 1)).all()
    return _cut(rows, limit)


def oldest_first(
    session: Session, query: Select[Row], *, row: type[Row], cursor: str | None, limit: int
) -> tuple[Sequence[Row], str | None]:
    """As `newest_first`, the other way round."""
    place = tuple_(row.created_at, row.id)
    if cursor is not None:
        query = query.where(place > tuple_(*_read(cursor)))
    rows = session.scalars(query.order_by(row.created_at, row.id).limit(limit + 1)).all()
    return _cut(rows, limit)


def _cut(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], str | None]:
    page = rows[:limit]
    return page, (_write(page[-1]) if len(rows) > limit else None)


def _write(row: Owned) -> str:
    return base64.urlsafe_b64encode(f"{row.created_at.isoformat()}|{row.id}".encode()).decode()


def _read(cursor: str) -> tuple[datetime, UUID]:
    try:
        when, _, which = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        return datetime.fromisoformat(when), UUID(which)
    except (ValueError, binascii.Error) as error:
        raise Invalid("this cursor is not one of ours; leave it out to start at the beginning") from error
