"""Which stage follows which, and when a job ends.

segment     PLAN ──► PREDICT × blocks ──► DIVIDE ──► LABEL × blocks ──► ASSEMBLE   per image ─┐
evaluate    BUNDLE                                            per few hundred small images ─┤
                                                                     └──► SUMMARISE ──► CLOSE
train       TRAIN ──► LOAD                                                          ─► CLOSE
import                LOAD                                                          ─► CLOSE
ingest      ARRANGE ──► EXAMINE × bundles ──► REPORT                                ─► CLOSE
preprocess  ARRANGE ──► TRANSFORM × bundles ──► REPORT                              ─► CLOSE
"""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from shared.domain import models
from shared.queue import TRAIN, WORK
from shared.tables import Block, DatasetVersion, Job, JobImage
from shared.tables.base import Json
from shared.tables.datasets import VersionState
from shared.tables.jobs import OPEN_BLOCK, BlockState, ImageState, JobKind, JobState, Stage
from shared.tables.models import ModelState

ENDED = "overtile_job_ended"  # the channel on which PostgreSQL tells the ids of jobs that have ended
AT_ONCE = 500  # rows
# PLAN and DIVIDE name their followers themselves, if they have any.
FOLLOWER = {
    Stage.PREDICT: Stage.DIVIDE,
    Stage.DIVIDE: Stage.ASSEMBLE,
    Stage.LABEL: Stage.ASSEMBLE,
    Stage.TRAIN: Stage.LOAD,
}
SEGMENTING = (Stage.BUNDLE, Stage.PLAN, Stage.PREDICT, Stage.DIVIDE, Stage.LABEL, Stage.ASSEMBLE)
# What becomes of each image that a bundle leaves behind.
ALONE = {Stage.BUNDLE: Stage.PLAN, Stage.EXAMINE: Stage.EXAMINE, Stage.TRANSFORM: Stage.TRANSFORM}


def queue_of(stage: Stage) -> str:
    """Who executes blocks of that stage."""
    return TRAIN if stage is Stage.TRAIN else WORK


def add_block(
    session: Session, job: Job, image: JobImage | None, stage: Stage, *, ordinal: int = 0, spec: Json | None = None
) -> None:
    """Add a pending block, due at once."""
    session.add(
        Block(
            workspace_id=job.workspace_id,
            job_id=job.id,
            image_id=image.id if image else None,
            stage=stage,
            queue=queue_of(stage),
            ordinal=ordinal,
            spec=spec or {},
        )
    )


def add_blocks(session: Session, job: Job, image: JobImage | None, blocks: Iterable[Mapping[str, Any]]) -> None:
    """Add pending blocks (stage, ordinal, spec), due at once: thousands take no more than their values' memory."""
    owner = {"workspace_id": job.workspace_id, "job_id": job.id, "image_id": image.id if image else None}
    rows = [{"id": uuid4(), **owner, **block, "queue": queue_of(block["stage"])} for block in blocks]
    for first in range(0, len(rows), AT_ONCE):
        session.execute(insert(Block), rows[first : first + AT_ONCE])


def advance(session: Session, job: Job, block: Block) -> None:
    """Do what follows from the end of `block`, in the transaction that ended it. The caller holds the job's row."""
    if job.state is JobState.CANCELLING:
        settle_cancelled(session, job)
    elif block.stage is Stage.CLOSE:
        _close(session, job, block)
    else:
        _mark_model(session, job, block)
        if block.image_id is None and block.stage in ALONE:
            _go_alone(session, job, block)
        else:
            image = session.get(JobImage, block.image_id) if block.image_id else None
            _advance_image(session, job, block, image)
        if not _has_open(session, job):
            add_block(session, job, None, _find_last(block))


def _find_last(block: Block) -> Stage:
    """What comes when nothing else is left: where images were worked on, first what they have in common."""
    if block.stage in SEGMENTING:
        return Stage.SUMMARISE
    looked_at = block.stage in (Stage.EXAMINE, Stage.TRANSFORM) or (
        block.stage is Stage.ARRANGE and block.state is BlockState.DONE
    )
    return Stage.REPORT if looked_at else Stage.CLOSE


def settle_cancelled(session: Session, job: Job) -> None:
    """End a job that is being cancelled once nobody holds a block of it any more."""
    if _has_open(session, job):
        return
    session.execute(
        update(JobImage)
        .where(JobImage.job_id == job.id, JobImage.state == ImageState.PENDING)
        .values(state=ImageState.CANCELLED)
    )
    _finish(session, job, JobState.CANCELLED, None)


def cancel_pending(session: Session, job: Job, image: JobImage | None = None) -> None:
    """Take back the blocks that nobody holds: of the image, or of the whole job."""
    pending = update(Block).where(Block.job_id == job.id, Block.state == BlockState.PENDING)
    if image is not None:
        pending = pending.where(Block.image_id == image.id)
    session.execute(pending.values(state=BlockState.CANCELLED))


def _go_alone(session: Session, job: Job, block: Block) -> None:
    """Images that their bundle leaves behind, being too large for it or because it was given up, go one by one.

    So that an image which ends every process that touches it takes no other image with it.
    """
    bundled = select(JobImage).where(JobImage.job_id == job.id, JobImage.ordinal.in_(block.spec["images"]))
    for image in session.scalars(bundled.where(JobImage.state == ImageState.PENDING).order_by(JobImage.ordinal)):
        add_block(session, job, image, ALONE[block.stage])


def _advance_image(session: Session, job: Job, block: Block, image: JobImage | None) -> None:
    if block.state is BlockState.FAILED:
        if image is not None and image.state is ImageState.PENDING:
            image.state, image.error = ImageState.FAILED, block.error
            cancel_pending(session, job, image)
        return
    given_up = image is not None and image.state is not ImageState.PENDING
    if given_up or _has_open(session, job, image):
        return
    follower = FOLLOWER.get(block.stage)
    if follower is not None:
        add_block(session, job, image, follower, ordinal=_count_blocks(session, job, image, follower))
    elif image is not None:
        image.state = ImageState.DONE


def _count_blocks(session: Session, job: Job, image: JobImage | None, stage: Stage) -> int:
    """How many there are: one that found something missing follows again once that is done."""
    count = select(func.count()).where(Block.job_id == job.id, Block.stage == stage)
    return session.scalar(count.where(Block.image_id == (image.id if image else None))) or 0


def _mark_model(session: Session, job: Job, block: Block) -> None:
    if block.stage is Stage.LOAD:
        state = ModelState.READY if block.state is BlockState.DONE else ModelState.FAILED
        models.mark(session, job, state, block.result.get("serving"))


def _close(session: Session, job: Job, block: Block) -> None:
    if block.state is BlockState.FAILED:  # results may be there, but nobody vouches for them
        _finish(session, job, JobState.FAILED, block.error)
        return
    count = select(JobImage.state, func.count()).where(JobImage.job_id == job.id).group_by(JobImage.state)
    images = dict(session.execute(count).all())
    failed, done = images.get(ImageState.FAILED, 0), images.get(ImageState.DONE, 0)
    cause, unreported = _first_cause(session, job), _find_unreported(session, job)
    if unreported is not None:
        _finish(session, job, JobState.FAILED, unreported)
    elif cause is None:
        _finish(session, job, JobState.SUCCEEDED, None)
    elif done:
        failures = f"{failed} of {failed + done} images failed; the first: " if failed else ""
        _finish(session, job, JobState.PARTIAL, {**cause, "detail": f"{failures}{cause['detail']}"})
    else:
        _finish(session, job, JobState.FAILED, cause)


def _first_cause(session: Session, job: Job) -> Json | None:
    """Why the first image failed, in their order; or else why a block without an image did.

    A bundle that was given up is no cause: its images went one by one.
    """
    image = select(JobImage.error).where(JobImage.job_id == job.id, JobImage.state == ImageState.FAILED)
    block = select(Block.error).where(Block.job_id == job.id, Block.state == BlockState.FAILED)
    block = block.where(Block.image_id.is_(None), Block.stage.not_in(ALONE))
    return session.scalar(image.order_by(JobImage.ordinal).limit(1)) or session.scalar(block.limit(1))


def _find_unreported(session: Session, job: Job) -> Json | None:
    """Why there is no report of the images that were looked at, if that is so: then nothing came of it."""
    report = select(Block.error).where(Block.job_id == job.id, Block.stage == Stage.REPORT)
    return session.scalar(report.where(Block.state == BlockState.FAILED).limit(1))


def _release_version(session: Session, job: Job) -> None:
    """An ingest that ended without a manifest leaves the version as it found it."""
    if job.kind is not JobKind.INGEST:
        return
    found = job.spec["found_as"]
    held = update(DatasetVersion).where(
        DatasetVersion.workspace_id == job.workspace_id,
        DatasetVersion.job_id == job.id,
        DatasetVersion.state == VersionState.INGESTING,
    )
    before = UUID(found["job_id"]) if found["job_id"] else None
    session.execute(held.values(state=VersionState(found["state"]), job_id=before))


def _has_open(session: Session, job: Job, image: JobImage | None = None) -> bool:
    open_block = select(Block.id).where(Block.job_id == job.id, Block.state.in_(OPEN_BLOCK))
    if image is not None:
        open_block = open_block.where(Block.image_id == image.id)
    return session.scalar(open_block.limit(1)) is not None


def _finish(session: Session, job: Job, state: JobState, error: Json | None) -> None:
    job.state, job.error, job.finished_at = state, error, func.now()
    _release_version(session, job)
    session.execute(select(func.pg_notify(ENDED, str(job.id))))  # told to who listens when this is committed
