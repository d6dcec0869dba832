"""Jobs: ordered once, whatever happens to the request; described as they are; ended by the user or by their blocks."""

import hashlib
import json
from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.domain import datasets, models, pages, stages
from shared.domain.dispatch import Dispatcher
from shared.errors import Conflict, Invalid, NotFound
from shared.schemas.contracts import BATCHES
from shared.schemas.jobs import SegmentIn, SegmentParameters
from shared.schemas.training import TrainIn
from shared.storage import upload_key
from shared.tables import DatasetFile, DatasetVersion, Job, JobImage
from shared.tables.base import Json
from shared.tables.datasets import FileRole
from shared.tables.jobs import ImageState, JobKind, JobState, Stage

Order = SegmentIn | TrainIn

CHECKPOINT = "checkpoint.safetensors"  # the file of a model version that another training can start from
USUAL_THRESHOLD = 0.5  # where the model version recommends none
# How often each tile is predicted, by the augmentation that was asked for.
VIEWS: dict[str, Literal[1, 4, 8]] = {"none": 1, "flips": 4, "all": 8}

# Fields that orders did not have at first, and what they meant without.
ADDED_LATER: Json = {
    "test_time_augmentation": "none",
    "empty_tiles": "auto",
    "stretch": None,
    "stain": None,
    "int8": False,
}

SMALL_BYTES = 4 * 2**20  # files up to this size are taken for small images, and go in bundles; who opens them will see
BUNDLE_IMAGES = 256  # in a bundle, at most
BUNDLE_BYTES = 32 * 2**20  # the same; together, some seconds of work
LEAST_BUNDLE = 16  # fewer are not worth sharing between workers
BUNDLES = 8  # that a job of many images is cut into at least: there may be as many workers


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
    version = _find_images(session, workspace_id, order)
    files = datasets.list_files(session, workspace_id, version.id)
    kind = JobKind(order.kind)
    spec = _describe(session, workspace_id, order)
    spec["dataset_version"] = {"id": str(version.id), "number": version.number, "digest": version.digest}
    job = Job(workspace_id=workspace_id, kind=kind, spec=spec, idempotency_key=key, order_digest=_digest(order))
    session.add(job)
    session.flush()
    if kind is JobKind.SEGMENT:
        _add_images(session, job, version, files)
    else:
        _check_trainable(version)
        stages.add_block(session, job, None, Stage.TRAIN)
    session.flush()
    session.refresh(job)
    return job


def _find_images(session: Session, workspace_id: UUID, order: Order) -> DatasetVersion:
    if order.dataset is not None:
        return datasets.resolve(session, workspace_id, order.dataset)
    if order.dataset_version is not None:
        return datasets.find_version(session, workspace_id, order.dataset_version)
    raise Invalid("name the images by either dataset or dataset_version")


def _describe(session: Session, workspace_id: UUID, order: Order) -> Json:
    if isinstance(order, SegmentIn):
        return _segment_spec(session, workspace_id, order)
    return _train_spec(session, workspace_id, order)


def _segment_spec(session: Session, workspace_id: UUID, order: SegmentIn) -> Json:
    model, version = models.resolve(session, workspace_id, order.model)
    recommended = version.contract.get("threshold") or USUAL_THRESHOLD
    views = VIEWS[order.test_time_augmentation]
    if views > 1 and version.contract.get("protocol", 1) < BATCHES:
        raise Conflict(
            f"model {model.name}@{version.number} was exported before test-time augmentation: export it anew, or leave "
            "test_time_augmentation out"
        )
    return {
        "parameters": SegmentParameters(
            threshold=recommended if order.threshold is None else order.threshold,
            closing=version.contract.get("closing") or 0,
            views=views,
            empty_tiles=order.empty_tiles,
        ).model_dump(),
        "model": {
            "id": str(model.id),
            "name": model.name,
            "version": version.number,
            "version_id": str(version.id),
            "digest": version.digest,
            "alias": models.alias_in(order.model),  # as it was asked for; it may stand for another version by now
        },
    }


def _train_spec(session: Session, workspace_id: UUID, order: TrainIn) -> Json:
    spec: Json = {"parameters": order.model_dump(mode="json", exclude={"dataset", "dataset_version"})}
    if order.start is not None:
        spec["start"] = _start_spec(session, workspace_id, order.start.model)
    return spec


def _start_spec(session: Session, workspace_id: UUID, reference: str) -> Json:
    """The version whose weights a training begins with, and the hash that they must have."""
    model, version = models.resolve(session, workspace_id, reference)
    if CHECKPOINT not in version.files:
        raise Conflict(
            f"model {model.name}@{version.number} came without its {CHECKPOINT}: there is nothing to start from"
        )
    return {
        "model_id": str(model.id),
        "version_id": str(version.id),
        "name": model.name,
        "number": version.number,
        "files": {CHECKPOINT: version.files[CHECKPOINT]},
    }


def _add_images(session: Session, job: Job, version: DatasetVersion, files: Sequence[DatasetFile]) -> None:
    images = [file for file in files if file.role is FileRole.IMAGE]
    if not images:
        raise Invalid(f"dataset version {version.id} holds masks only; there is nothing to segment")
    rows = [
        JobImage(
            workspace_id=job.workspace_id,
            job_id=job.id,
            ordinal=ordinal,
            name=file.name,
            key=upload_key(version.dataset_id, file.sha256),
            sha256=file.sha256,
            bytes=file.bytes,
        )
        for ordinal, file in enumerate(images)
    ]
    session.add_all(rows)
    session.flush()
    small = [row for row in rows if row.bytes <= SMALL_BYTES]
    for number, bundle in enumerate(cut_bundles(small, views=job.spec["parameters"]["views"])):
        stages.add_block(session, job, None, Stage.BUNDLE, ordinal=number, spec={"images": bundle})
    for row in rows:
        if row.bytes > SMALL_BYTES:
            stages.add_block(session, job, row, Stage.PLAN)


def cut_bundles(images: Sequence[JobImage], *, views: int) -> list[list[int]]:
    """The ordinals of each bundle."""
    most = min(max(-(-len(images) // BUNDLES), LEAST_BUNDLE), BUNDLE_IMAGES // views)
    bundles: list[list[int]] = []
    taken = 0
    for image in images:
        if not bundles or len(bundles[-1]) == most or taken + image.bytes > BUNDLE_BYTES:
            bundles.append([])
            taken = 0
        bundles[-1].append(image.ordinal)
        taken += image.bytes
    return bundles


def _check_trainable(version: DatasetVersion) -> None:
    if version.images < 2 or version.masks < 2:
        raise Invalid(
            f"training needs at least two images with masks, `images/a.png` beside `masks/a.png`; "
            f"this version holds {version.images} images and {version.masks} masks"
        )


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
