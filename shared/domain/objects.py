"""Bytes in the store: one row for equal bytes of a workspace, whatever files of whatever datasets they are.

A row says that somebody wants the object, not that the store holds it: whoever needs to know asks the store. As long as
a row was wanted lately, its object is not collected. So: announce first, then write or count on it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy import Select, bindparam, case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.storage import Listed, object_key
from shared.tables import DatasetFile, StoredObject

AT_ONCE = 1000  # rows of one statement


@dataclass(frozen=True)
class Content:
    """Bytes, as somebody announces them."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Verified:
    """What the bytes of an object are; `etag`: the store's name for them, if it was asked."""

    sha256: str
    etag: str | None


def find(session: Session, workspace_id: UUID, hashes: Iterable[str]) -> dict[str, StoredObject]:
    """The workspace's own objects of these hashes, as far as there are any, within the caller's transaction.

    Of several, as datasets had them before objects were shared, a verified one.
    """
    different = sorted(set(hashes))
    found: dict[str, StoredObject] = {}
    for first in range(0, len(different), AT_ONCE):
        query = _own(workspace_id).where(StoredObject.sha256.in_(different[first : first + AT_ONCE]))
        for row in session.scalars(query.order_by(StoredObject.verified_at.nulls_last(), StoredObject.id)):
            found.setdefault(row.sha256 or "", row)
    return found


def ensure(session: Session, workspace_id: UUID, contents: Iterable[Content]) -> dict[str, StoredObject]:
    """Rows for all of them, by hash, within the caller's transaction.

    They are wanted from now on, and no one collects them before the transaction ends.
    """
    announced = {content.sha256: content for content in contents}
    touch(session, [row.id for row in find(session, workspace_id, announced).values()])
    known = find(session, workspace_id, announced)  # after their rows were locked: a collector may have been faster
    _insert(session, workspace_id, [content for sha256, content in announced.items() if sha256 not in known])
    return find(session, workspace_id, announced)


def announce(session: Session, workspace_id: UUID, contents: Iterable[Content]) -> dict[str, StoredObject]:
    """As `ensure`, in a transaction of its own: to be called before bytes are written under `object_key`."""
    with session.begin():
        return ensure(session, workspace_id, contents)


def touch(session: Session, ids: Sequence[UUID]) -> None:
    """Want these objects from now on; their rows are locked until the caller's transaction ends."""
    ordered = sorted(ids)
    for first in range(0, len(ordered), AT_ONCE):
        some = ordered[first : first + AT_ONCE]
        # Locked in one order, so that two that want the same objects do not wait for each other for ever.
        session.execute(
            select(StoredObject.id).where(StoredObject.id.in_(some)).order_by(StoredObject.id).with_for_update()
        )
        session.execute(update(StoredObject).where(StoredObject.id.in_(some)).values(wanted_at=func.now()))


def register(session: Session, workspace_id: UUID, bucket: str, listed: Sequence[Listed]) -> dict[str, StoredObject]:
    """Rows for objects of a lab's own bucket, by key, within the caller's transaction. Their hashes are unknown.

    An object that has another `etag` than the row there is gets a row of its own.
    """
    touch(session, [row.id for row in _find_foreign(session, workspace_id, bucket, listed).values()])
    known = _find_foreign(session, workspace_id, bucket, listed)  # after locking: a collector may have been faster
    rows = [
        {"bucket": bucket, "key": one.key, "bytes": one.bytes, "etag": one.etag, **_owner(workspace_id)}
        for one in sorted(listed, key=lambda one: one.key)
        if one.key not in known
    ]
    for first in range(0, len(rows), AT_ONCE):
        # Whoever was faster registers the same object. Updated all the same: that locks the row.
        session.execute(
            insert(StoredObject)
            .values(rows[first : first + AT_ONCE])
            .on_conflict_do_update(
                index_elements=["workspace_id", "bucket", "key", "etag"],
                index_where=StoredObject.bucket.is_not(None),
                set_={"wanted_at": func.now()},
            )
        )
    return _find_foreign(session, workspace_id, bucket, listed)


def mark_verified(session: Session, found: Mapping[UUID, Verified]) -> None:
    """These objects, by id, were read whole: what their bytes are. In the caller's transaction.

    Files of foreign objects, whose hash nobody knew, get it, too. A foreign object keeps the etag it was registered by,
    which tells it from what replaces it; one of the platform's own keeps what it has if the store was not asked.
    """
    ids = sorted(found)
    mark = (
        update(StoredObject)
        .where(StoredObject.id == bindparam("row"))
        .values(
            sha256=bindparam("read"),
            etag=case(
                (StoredObject.bucket.is_(None), func.coalesce(bindparam("told"), StoredObject.etag)),
                else_=StoredObject.etag,
            ),
            verified_at=func.now(),
        )
    )
    for first in range(0, len(ids), AT_ONCE):
        some = ids[first : first + AT_ONCE]
        rows = [{"row": id_, "read": found[id_].sha256, "told": found[id_].etag} for id_ in some]
        session.connection().execute(mark, rows)
        unknown = DatasetFile.object_id.in_(some), DatasetFile.sha256.is_(None)
        hashes = select(StoredObject.sha256).where(StoredObject.id == DatasetFile.object_id).scalar_subquery()
        session.execute(
            update(DatasetFile).where(*unknown).values(sha256=hashes).execution_options(synchronize_session=False)
        )


def doubt(session: Session, ids: Sequence[UUID]) -> None:
    """The store lacks these objects: what was known of their bytes is not of those that come next."""
    values = {"verified_at": None, "etag": None}
    session.execute(update(StoredObject).where(StoredObject.id.in_(ids)).values(values))


def _find_foreign(
    session: Session, workspace_id: UUID, bucket: str, listed: Sequence[Listed]
) -> dict[str, StoredObject]:
    """The rows of exactly these objects, by key, as far as there are any."""
    etags = {one.key: one.etag for one in listed}
    keys = sorted(etags)
    foreign = select(StoredObject).where(StoredObject.workspace_id == workspace_id, StoredObject.bucket == bucket)
    found: dict[str, StoredObject] = {}
    for first in range(0, len(keys), AT_ONCE):
        some = foreign.where(StoredObject.key.in_(keys[first : first + AT_ONCE]))
        for row in session.scalars(some.execution_options(populate_existing=True)):
            if row.etag == etags[row.key]:
                found[row.key] = row
    return found


def _insert(session: Session, workspace_id: UUID, contents: Sequence[Content]) -> None:
    rows: list[Mapping[str, object]] = [
        {
            "key": object_key(workspace_id, content.sha256),
            "sha256": content.sha256,
            "bytes": content.bytes,
            **_owner(workspace_id),
        }
        for content in sorted(contents, key=lambda content: content.sha256)
    ]
    for first in range(0, len(rows), AT_ONCE):
        # Whoever was faster has the same hash under the same key. Updated all the same: that locks the row.
        session.execute(
            insert(StoredObject)
            .values(rows[first : first + AT_ONCE])
            .on_conflict_do_update(
                index_elements=["workspace_id", "key"],
                index_where=StoredObject.bucket.is_(None),
                set_={"wanted_at": func.now()},
            )
        )


def _own(workspace_id: UUID) -> Select[StoredObject]:
    own = select(StoredObject).where(StoredObject.workspace_id == workspace_id, StoredObject.bucket.is_(None))
    return own.execution_options(populate_existing=True)


def _owner(workspace_id: UUID) -> dict[str, UUID]:
    return {"id": uuid4(), "workspace_id": workspace_id}
