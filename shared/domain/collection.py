"""Deleting versions and datasets, and the bytes that nothing refers to afterwards.

Rows go at once, bytes later: an object may be a file of other datasets, or be wanted again a moment from now.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from shared.domain import dataset_locks, rounds
from shared.errors import Conflict, NotFound
from shared.storage import Storage
from shared.tables import Dataset, DatasetFile, DatasetVersion, Job, StoredObject
from shared.tables.jobs import JobKind

ROUND = 1000  # objects of one round


def delete_version(session: Session, workspace_id: UUID, dataset_id: UUID, number: int) -> None:
    """Delete a version, its files and its manifest. Its number is not given again.

    Raises NotFound, and Conflict while a job that is not over uses it.
    """
    query = select(DatasetVersion.id).where(
        DatasetVersion.workspace_id == workspace_id,
        DatasetVersion.dataset_id == dataset_id,
        DatasetVersion.number == number,
    )
    with session.begin():
        dataset_locks.hold(session, workspace_id, dataset_id)
        # Orders hold a share of the row until they are rows themselves: none slips in between look and deletion.
        version_id = session.scalar(query.with_for_update())
        if version_id is None:
            raise NotFound(f"dataset {dataset_id} has no version {number} in your workspace")
        _refuse_if_used(session, workspace_id, [version_id], what=f"version {number}")
        session.execute(delete(DatasetVersion).where(DatasetVersion.id == version_id))


def delete_dataset(session: Session, workspace_id: UUID, dataset_id: UUID) -> None:
    """Delete a dataset and all its versions. Raises as `delete_version` does."""
    versions = select(DatasetVersion.id).where(
        DatasetVersion.workspace_id == workspace_id, DatasetVersion.dataset_id == dataset_id
    )
    with session.begin():
        name = dataset_locks.hold(session, workspace_id, dataset_id).name
        ids = session.scalars(versions.order_by(DatasetVersion.id).with_for_update()).all()
        _refuse_if_used(session, workspace_id, ids, what=f"dataset {name!r}", into=dataset_id)
        session.execute(delete(Dataset).where(Dataset.workspace_id == workspace_id, Dataset.id == dataset_id))


def collect(session: Session, storage: Storage, *, seconds: float) -> int:
    """Remove objects that no file refers to and nobody wanted for `seconds`; returns how many.

    Any number may collect at once, and be killed at any time: what was removed from the store only is found again.
    Foreign objects stay where they are; only their rows go.
    """
    # In no fixed order: those that the store does not remove must not be the first of every round.
    unwanted = select(StoredObject.id).where(*_unwanted(seconds)).order_by(func.random()).limit(ROUND)
    with session.begin():
        found = session.scalars(unwanted).all()
    return rounds.remove_each(found, lambda object_id: _collect(session, storage, object_id, seconds))


def _collect(session: Session, storage: Storage, object_id: UUID, seconds: float) -> bool:
    """The row is locked while its object is removed: who wants the same bytes waits, and then sends them anew."""
    with session.begin():
        locked = select(StoredObject.id).where(StoredObject.id == object_id, *_unwanted(seconds))
        if session.scalar(locked.with_for_update(skip_locked=True)) is None:
            return False
        # Looked at once more, now that no file can come to refer to it: the lock may have come after one that did.
        row = session.scalar(select(StoredObject).where(StoredObject.id == object_id, *_unwanted(seconds)))
        if row is None:
            return False
        if row.bucket is None:
            storage.delete(row.key)
        session.delete(row)
    return True


def _unwanted(seconds: float) -> tuple[ColumnElement[bool], ...]:
    """What a job that makes files has announced is wanted until the job is over, however long it takes."""
    lately = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    announced = exists().where(
        Job.workspace_id == StoredObject.workspace_id,
        Job.kind.in_((JobKind.INGEST, JobKind.PREPROCESS)),
        Job.finished_at.is_(None),
        Job.created_at <= StoredObject.wanted_at,
    )
    return StoredObject.wanted_at < lately, ~exists().where(DatasetFile.object_id == StoredObject.id), ~announced


def _refuse_if_used(
    session: Session, workspace_id: UUID, version_ids: Sequence[UUID], *, what: str, into: UUID | None = None
) -> None:
    named = [str(version_id) for version_id in version_ids]
    uses = [Job.spec["dataset_version"]["id"].astext.in_(named)]
    if into is not None:
        uses.append(Job.spec["into"].astext == str(into))
    running = select(Job).where(Job.workspace_id == workspace_id, Job.finished_at.is_(None), or_(*uses))
    job = session.scalar(running.order_by(Job.created_at).limit(1))
    if job is not None:
        raise Conflict(f"{what} is used by {job.kind.value} job {job.id}, which is not over: wait for it, or cancel it")
