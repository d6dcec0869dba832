"""What versions of a dataset hold, and how two of them differ."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, case, func, select, tuple_
from sqlalchemy.orm import Session, joinedload

from shared.errors import Invalid
from shared.tables import Dataset, DatasetFile, DatasetImage, DatasetVersion
from shared.tables.datasets import FileRole, ManifestState

NAMES = 1000  # of each kind of difference that are listed

Row = TypeVar("Row", DatasetFile, DatasetImage)


@dataclass(frozen=True)
class Description:
    """A version with what stands in other rows."""

    version: DatasetVersion
    parent: int | None  # number of the version it goes on from, if that is of the same dataset and still there
    files: int
    accepted: int  # images of its manifest
    rejected: int


@dataclass
class Difference:
    """How the files of a version are others than those of a version before. Counts of all, names of the first 1000."""

    counts: dict[str, int] = field(default_factory=dict)  # added, removed, changed, same
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def describe(session: Session, versions: Sequence[DatasetVersion]) -> list[Description]:
    """Each of the versions, that are of one dataset, as its rows stand now."""
    ids = [version.id for version in versions]
    parents = [version.parent_id for version in versions if version.parent_id]
    files = select(DatasetFile.version_id, func.count()).where(DatasetFile.version_id.in_(ids))
    images = select(DatasetImage.version_id, DatasetImage.state, func.count()).where(DatasetImage.version_id.in_(ids))
    with session.begin():
        listed = session.execute(files.group_by(DatasetFile.version_id))
        counted = {version_id: count for version_id, count in listed}  # noqa: C416  # dict() takes a result for a mapping
        found = session.execute(images.group_by(DatasetImage.version_id, DatasetImage.state))
        judged = {(version_id, state): count for version_id, state, count in found}
        named = select(DatasetVersion.id, DatasetVersion.number, DatasetVersion.dataset_id)
        rows = session.execute(named.where(DatasetVersion.id.in_(parents)))
        numbers = {(id_, dataset_id): number for id_, number, dataset_id in rows}
    return [
        Description(
            version=version,
            parent=numbers.get((version.parent_id, version.dataset_id)) if version.parent_id else None,
            files=counted.get(version.id, 0),
            accepted=judged.get((version.id, ManifestState.ACCEPTED), 0),
            rejected=judged.get((version.id, ManifestState.REJECTED), 0),
        )
        for version in versions
    ]


def list_page(
    session: Session, dataset: Dataset, *, cursor: str | None, limit: int
) -> tuple[Sequence[DatasetVersion], str | None]:
    """One page of the dataset's versions, the newest first. The cursor is the first number of the page."""
    query = select(DatasetVersion).where(
        DatasetVersion.workspace_id == dataset.workspace_id, DatasetVersion.dataset_id == dataset.id
    )
    if cursor is not None:
        query = query.where(DatasetVersion.number <= _number(cursor))
    with session.begin():
        rows = session.scalars(query.order_by(DatasetVersion.number.desc()).limit(limit + 1)).all()
    return rows[:limit], (str(rows[limit].number) if len(rows) > limit else None)


def list_files(
    session: Session, version: DatasetVersion, *, role: FileRole | None, cursor: str | None, limit: int
) -> tuple[Sequence[DatasetFile], str | None]:
    """One page of the version's files with their objects, in its order."""
    query = select(DatasetFile).where(
        DatasetFile.workspace_id == version.workspace_id, DatasetFile.version_id == version.id
    )
    query = query.options(joinedload(DatasetFile.object))
    if role is not None:
        query = query.where(DatasetFile.role == role)
    return _page(session, query, row=DatasetFile, cursor=cursor, limit=limit)


def list_images(
    session: Session, version: DatasetVersion, *, state: ManifestState | None, cursor: str | None, limit: int
) -> tuple[Sequence[DatasetImage], str | None]:
    """One page of the version's manifest, in its order; it is empty before ingest."""
    query = select(DatasetImage).where(
        DatasetImage.workspace_id == version.workspace_id, DatasetImage.version_id == version.id
    )
    if state is not None:
        query = query.where(DatasetImage.state == state)
    return _page(session, query, row=DatasetImage, cursor=cursor, limit=limit)


def compare(session: Session, old: DatasetVersion, new: DatasetVersion) -> Difference:
    """What became of the files of `old` in `new`, by name; files that jobs derived do not count.

    Files whose bytes nobody has read yet are the same where they are one object of one bucket.
    """
    kinds = _join(old, new).subquery()
    counted = select(kinds.c.kind, func.count()).group_by(kinds.c.kind)
    difference = Difference()
    with session.begin():
        difference.counts = dict.fromkeys(("added", "removed", "changed", "same"), 0)
        difference.counts |= [(kind, count) for kind, count in session.execute(counted)]
        for kind in ("added", "removed", "changed"):
            some = select(kinds.c.name).where(kinds.c.kind == kind).order_by(kinds.c.name).limit(NAMES)
            getattr(difference, kind).extend(session.scalars(some))
    return difference


def _join(old: DatasetVersion, new: DatasetVersion) -> Select[tuple[str, str]]:
    """Name and kind of difference of each file of either version."""
    before, after = (select(DatasetFile).where(_listed_in(version)).subquery() for version in (old, new))
    unread = before.c.sha256.is_(None) | after.c.sha256.is_(None)
    same = case((unread, before.c.object_id == after.c.object_id), else_=before.c.sha256 == after.c.sha256)
    kind = case((before.c.id.is_(None), "added"), (after.c.id.is_(None), "removed"), (same, "same"), else_="changed")
    name = func.coalesce(after.c.name, before.c.name)
    both = before.join(after, before.c.name == after.c.name, full=True)
    return select(name.label("name"), kind.label("kind")).select_from(both)


def _listed_in(version: DatasetVersion) -> ColumnElement[bool]:
    return and_(
        DatasetFile.workspace_id == version.workspace_id,
        DatasetFile.version_id == version.id,
        DatasetFile.role != FileRole.DERIVED,
    )


def _page(
    session: Session, query: Select[Row], *, row: type[Row], cursor: str | None, limit: int
) -> tuple[Sequence[Row], str | None]:
    """The cursor is the place of the page's first row."""
    place = tuple_(row.ordinal, row.id)
    if cursor is not None:
        query = query.where(place >= tuple_(*_place(cursor)))
    with session.begin():
        rows = session.scalars(query.order_by(row.ordinal, row.id).limit(limit + 1)).all()
    return rows[:limit], (f"{rows[limit].ordinal}.{rows[limit].id}" if len(rows) > limit else None)


def _place(cursor: str) -> tuple[int, UUID]:
    ordinal, _, id_ = cursor.partition(".")
    try:
        return _number(ordinal), UUID(id_)
    except ValueError as error:
        raise _odd() from error


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 2**31):
        raise _odd()
    return int(text)


def _odd() -> Invalid:
    return Invalid("this cursor is not one of ours; leave it out to start at the beginning")
