"""Jobs: ordered once, whatever happens to the request; described as they are; ended by the user or by their blocks."""

import hashlib
import json
from collections.abc import Callable, Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.domain import pages, stages
from shared.domain.dispatch import Dispatcher
from shared.domain.orders import evaluate, ingest, preprocess, segment, train, versions
from shared.errors import Conflict, Invalid, NotFound
from shared.schemas.evaluation import EvaluateIn
from shared.schemas.ingest import IngestIn, PreprocessIn
from shared.schemas.jobs import SegmentIn
from shared.schemas.outputs import DEFAULT_OUTPUTS
from shared.schemas.training import TrainIn
from shared.tables import DatasetVersion, Job, JobImage
from shared.tables.base import Json
from shared.tables.jobs import ImageState, JobKind, JobState

Order = SegmentIn | EvaluateIn | TrainIn | IngestIn | PreprocessIn

BEGIN: dict[JobKind, Callable[[Session, Job, DatasetVersion], None]] = {
    JobKind.SEGMENT: segment.begin,
    JobKind.EVALUATE: evaluate.begin,
    JobKind.TRAIN: train.begin,
    JobKind.INGEST: ingest.begin,
    JobKind.PREPROCESS: preprocess.begin,
}

# Fields that orders did not have at first, and what they meant without.
ADDED_LATER: Json = {
    "test_time_augmentation": "none",
    "empty_tiles": "auto",
    "stretch": None,
    "stain": None,
    "int8": False,
    "outputs": list(DEFAULT_OUTPUTS),
    "objects": None,
}


def submit(session: Session, dispatcher: Dispatcher, workspace_id: UUID, order: Order, *, key: str) -> Job:
    """Store the job, then wake the workers. The same order sent again under the same `key` gives the same job.

    Raises Conflict if the key was used for another order, NotFound for an unknown dataset or model.
    """
    with session.begin():
        _wait_for_twin(session, workspace_id, key)
        job = _find_same(session, workspace_id, order, key) or _add(session, workspace_id, order, key)
    dispatcher.ring_due(session)  # only after the commit: no worker may meet an id without its row
    return job


def get(session: Session, workspace_id: UUID, job_id: UUID) -> Job:
    """The job. Raises NotFound."""
    with session.begin():
        return _get(session, workspace_id, job_id)


def has_ended(session: Session, workspace_id: UUID, job_id: UUID) -> bool:
    """Whether nothing will happen to the job any more. Raises NotFound."""
    with session.begin():
        state = session.scalar(select(Job.state).where(Job.workspace_id == workspace_id, Job.id == job_id))
    if state is None:
        raise _unknown(job_id)
    return state.final


def list_page(
    session: Session, workspace_id: UUID, *, state: JobState | None, cursor: str | None, limit: int
) -> tuple[Sequence[Job], str | None]:
    """One page of the workspace's jobs, the newest first."""
    query = select(Job).where(Job.workspace_id == workspace_id)
    if state is not None:
        query = query.where(Job.state == state)
    with session.begin():
        return pages.newest_first(session, query, row=Job, cursor=cursor, limit=limit)


def list_images(
    session: Session, workspace_id: UUID, job_id: UUID, *, cursor: str | None, limit: int
) -> tuple[Sequence[JobImage], str | None]:
    """One page of the job's images, in their order. The cursor is the first ordinal of the page."""
    if cursor is not None and not (cursor.isdecimal() and int(cursor) < 2**31):
        raise Invalid("this cursor is not one of ours; leave it out to start at the beginning")
    query = select(JobImage).where(JobImage.workspace_id == workspace_id, JobImage.ordinal >= int(cursor or 0))
    with session.begin():
        job = _get(session, workspace_id, job_id)
        rows = session.scalars(query.where(JobImage.job_id == job.id).order_by(JobImage.ordinal).limit(limit + 1)).all()
    return rows[:limit], (str(rows[limit].ordinal) if len(rows) > limit else None)


def find_images(session: Session, job: Job, ordinals: Sequence[int]) -> Sequence[JobImage]:
    """Those of the job's images that are still to be worked on, in their order."""
    wanted = select(JobImage).where(JobImage.workspace_id == job.workspace_id, JobImage.job_id == job.id)
    wanted = wanted.where(JobImage.state == ImageState.PENDING, JobImage.ordinal.in_(ordinals))
    with session.begin():
        return session.scalars(wanted.order_by(JobImage.ordinal)).all()


def cancel(session: Session, workspace_id: UUID, job_id: UUID) -> Job:
    """End the job without its result. Blocks that are being worked on stop within a tile. Twice is as once.

    Raises NotFound, or Conflict if the job has ended otherwise.
    """
    with session.begin():
        job = _get(session, workspace_id, job_id, lock=True)
        if job.state.final and job.state is not JobState.CANCELLED:
            raise Conflict(f"job {job_id} has ended already: {job.state.value}")
        if not job.state.final:
            job.state = JobState.CANCELLING
            stages.cancel_pending(session, job)
            stages.settle_cancelled(session, job)
            session.flush()
            session.refresh(job)
    return job


def _get(session: Session, workspace_id: UUID, job_id: UUID, *, lock: bool = False) -> Job:
    query = select(Job).where(Job.workspace_id == workspace_id, Job.id == job_id)
    job = session.scalar(query.with_for_update() if lock else query)
    if job is None:
        raise _unknown(job_id)
    return job


def _unknown(job_id: UUID) -> NotFound:
    return NotFound(f"there is no job {job_id} in your workspace")


def _wait_for_twin(session: Session, workspace_id: UUID, key: str) -> None:
    """Let one request at a time use a key, so that a twin sent at the same moment finds the first one's job."""
    number = int.from_bytes(hashlib.sha256(f"{workspace_id} {key}".encode()).digest()[:8], signed=True)
    session.execute(select(func.pg_advisory_xact_lock(number)))


def _find_same(session: Session, workspace_id: UUID, order: Order, key: str) -> Job | None:
    job = session.scalar(select(Job).where(Job.workspace_id == workspace_id, Job.idempotency_key == key))
    if job is not None and job.order_digest != _digest(order):
        raise Conflict(f"the idempotency key {key!r} belongs to another order (job {job.id}); use a new key")
    return job


def _add(session: Session, workspace_id: UUID, order: Order, key: str) -> Job:
    kind = JobKind(order.kind)
    if isinstance(order, IngestIn):
        versions.hold_dataset(session, workspace_id, order)
    version = versions.find(session, workspace_id, order)
    spec = _specify(session, workspace_id, order, version, key)
    job = Job(workspace_id=workspace_id, kind=kind, spec=spec, idempotency_key=key, order_digest=_digest(order))
    session.add(job)
    session.flush()
    BEGIN[kind](session, job, version)
    session.flush()
    session.refresh(job)
    return job


def _specify(session: Session, workspace_id: UUID, order: Order, version: DatasetVersion, key: str) -> Json:
    match order:
        case SegmentIn():
            return segment.specify(session, workspace_id, order, version)
        case EvaluateIn():
            return evaluate.specify(session, workspace_id, order, version)
        case TrainIn():
            return train.specify(session, workspace_id, order, version)
        case IngestIn():
            return ingest.specify(session, workspace_id, order, version, key=key)
        case PreprocessIn():
            return preprocess.specify(session, workspace_id, order, version)


def _digest(order: Order) -> str:
    return hashlib.sha256(
        json.dumps(_without_later(order.model_dump(mode="json")), sort_keys=True).encode()
    ).hexdigest()


def _without_later(value: Json) -> Json:
    """What an order was before fields were added to it, unless they say something else than it meant then.

    So that an order repeated under its key after an upgrade is still the same one.
    """
    kept = {name: part for name, part in value.items() if name not in ADDED_LATER or part != ADDED_LATER[name]}
    return {name: _without_later(part) if isinstance(part, dict) else part for name, part in kept.items()}
