"""Blocks: claimed by one, renewed while held, committed once.

Lock order is job, then block, everywhere. The database's clock decides, so that workers' clocks need not agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import Session

from shared.domain import manifests, models, stages
from shared.domain.dispatch import Dispatcher
from shared.domain.manifests import NewImage, NewManifest
from shared.domain.models import NewModelVersion
from shared.storage import Stored
from shared.tables import Artifact, Block, Job, JobImage
from shared.tables.base import Json
from shared.tables.jobs import BlockState, ImageState, JobState, Stage

LONGEST_PAUSE = timedelta(minutes=1)  # between two tries of a block
LONGEST_OUTAGE = timedelta(hours=6)  # of a server that a block needs, before the block is given up


@dataclass(frozen=True)
class NewBlock:
    """A block that follows from the one being committed; it belongs to the same image."""

    stage: Stage
    ordinal: int
    spec: Json


@dataclass(frozen=True)
class NewArtifact:
    """An object written by the block. `name` is the path under which a user stores it."""

    kind: str
    name: str
    media_type: str
    stored: Stored


@dataclass(frozen=True)
class ImageOutcome:
    """The end of one image: what was found in it and made of it, or why it failed."""

    image_id: UUID
    facts: Json = field(default_factory=dict)
    result: Json = field(default_factory=dict)
    findings: Sequence[Json] = ()  # for the report of a dataset version
    artifacts: Sequence[NewArtifact] = ()
    error: Json | None = None


@dataclass(frozen=True)
class Outcome:
    """What a block made. Everything in it becomes visible at once, or not at all."""

    result: Json = field(default_factory=dict)
    blocks: Sequence[NewBlock] = ()
    artifacts: Sequence[NewArtifact] = ()
    facts: Json | None = None  # of the block's image, from planning
    images: Sequence[ImageOutcome] = ()  # that are over with this block
    model: NewModelVersion | None = None
    found: Sequence[NewImage] = ()  # images that the job is to work on, from arranging
    manifest: NewManifest | None = None  # of the job's dataset version


@dataclass(frozen=True)
class Claim:
    """A block, held; with what is needed to work on it."""

    block: Block
    job: Job
    image: JobImage | None
    fence: int  # tells this claim from every other one of the same block
    attempt: int  # which try this is, from 1


def claim(session: Session, block_id: UUID, *, owner: str, lease: timedelta) -> Claim | None:
    """Lease the block to `owner`; None if it is not pending any more or its job is not wanted any more."""
    job_id = select(Block.job_id).where(Block.id == block_id).scalar_subquery()
    wanted = exists().where(Job.id == Block.job_id, Job.state.in_((JobState.QUEUED, JobState.RUNNING)))
    with session.begin():
        queued = session.scalar(select(Job).where(Job.id == job_id, Job.state == JobState.QUEUED).with_for_update())
        block = session.scalar(
            update(Block)
            .where(Block.id == block_id, Block.state == BlockState.PENDING, Block.not_before <= func.now(), wanted)
            .values(
                state=BlockState.LEASED,
                owner=owner,
                lease_until=func.now() + lease,
                attempt=Block.attempt + 1,
                fence=Block.fence + 1,
                started_at=func.coalesce(Block.started_at, func.now()),
            )
            .returning(Block)
        )
        if block is None:
            return None
        if queued is not None:
            queued.state, queued.started_at = JobState.RUNNING, func.now()
        return _as_claim(session, block)


def renew(
    session: Session, claim: Claim, *, lease: timedelta, note: Json | None = None, advanced: bool = False
) -> JobState | None:
    """Hold the block longer and leave a note. Returns the job's state, None if the block is lost.

    `advanced`: the work is further than any try before it left it, so that tries are counted anew.
    """
    changes: dict[str, object] = {"lease_until": func.now() + lease}
    if advanced:
        changes["attempt"] = 1
    if note is not None:
        changes["note"] = note
    with session.begin():
        if session.scalar(update(Block).where(*_held(claim)).values(changes).returning(Block.id)) is None:
            return None
        return session.scalar(select(Job.state).where(Job.id == claim.job.id))


def commit(session: Session, dispatcher: Dispatcher, claim: Claim, outcome: Outcome) -> bool:
    """Make the outcome count, once; False if the block was lost, and then nothing changed.

    Whether that was the last block, and what follows from it, is decided in the same transaction.
    """
    with session.begin():
        job = _lock_job(session, claim)
        ended = {"state": BlockState.DONE, "committed_at": func.now(), "result": outcome.result, "error": None}
        block = _end(session, claim, ended)
        if block is None:
            return False
        _add_outcome(session, claim, job, outcome)
        stages.advance(session, job, block)
    dispatcher.ring_due(session)
    return True


def fail(session: Session, dispatcher: Dispatcher, claim: Claim, cause: Json, *, attempts: int) -> bool:
    """Note that a try failed: pause and try again, or give up after `attempts` tries. False if it was lost.

    A server that was away is no fault of the block: such tries do not count, until the outage has lasted for hours.
    """
    with session.begin():
        job = _lock_job(session, claim)
        ended = _retry_or_give_up(session, job, claim, cause, attempts)
    dispatcher.ring_due(session)
    return ended


def expire(session: Session, dispatcher: Dispatcher, claim: Claim, *, attempts: int) -> bool:
    """As `fail`, for a block whose owner fell silent; False if the owner spoke again meanwhile."""
    cause = {
        "type": "lost",
        "detail": f"{claim.block.owner} held the block and fell silent (try {claim.attempt} of {attempts}): "
        "the process or its machine died; look for its end in that machine's log",
    }
    silent = select(Block.id).where(*_held(claim), Block.lease_until < func.now()).with_for_update()
    with session.begin():
        job = _lock_job(session, claim)
        ended = session.scalar(silent) is not None and _retry_or_give_up(session, job, claim, cause, attempts)
    dispatcher.ring_due(session)
    return ended


def give_back(session: Session, dispatcher: Dispatcher, claim: Claim) -> bool:
    """Return the block unworked, as if it had never been claimed; a cancelled job's block is dropped."""
    with session.begin():
        job = _lock_job(session, claim)
        if job.state is JobState.CANCELLING:
            block = _end(session, claim, {"state": BlockState.CANCELLED})
            if block is not None:
                stages.advance(session, job, block)
            return block is not None
        returned = {"state": BlockState.PENDING, "ring_at": func.now(), "attempt": Block.attempt - 1}
        if _end(session, claim, returned) is None:
            return False
    dispatcher.ring_due(session)
    return True


def results_of_image(session: Session, image: JobImage, stage: Stage) -> Sequence[tuple[Json, Json]]:
    """Orders and results of the image's blocks of a stage that are done."""
    query = select(Block.spec, Block.result).where(Block.workspace_id == image.workspace_id, Block.image_id == image.id)
    with session.begin():
        found = session.execute(query.where(Block.stage == stage, Block.state == BlockState.DONE))
        return [(spec, result) for spec, result in found]


def result_of_job(session: Session, job: Job, stage: Stage) -> Json:
    """Result of the job's one block of a stage; empty if it is not done."""
    query = select(Block.result).where(Block.workspace_id == job.workspace_id, Block.job_id == job.id)
    with session.begin():
        return session.scalar(query.where(Block.stage == stage, Block.state == BlockState.DONE).limit(1)) or {}


def find_expired(session: Session, *, limit: int = 100) -> list[Claim]:
    """Claims whose owner has been silent for longer than its lease."""
    with session.begin():
        silent = select(Block).where(Block.state == BlockState.LEASED, Block.lease_until < func.now())
        expired = session.scalars(silent.order_by(Block.lease_until).limit(limit)).all()
        return [_as_claim(session, block) for block in expired]


def _as_claim(session: Session, block: Block) -> Claim:
    job = session.get_one(Job, block.job_id)
    image = session.get_one(JobImage, block.image_id) if block.image_id else None
    return Claim(block, job, image, fence=block.fence, attempt=block.attempt)


def _held(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return Block.id == claim.block.id, Block.state == BlockState.LEASED, Block.fence == claim.fence


def _lock_job(session: Session, claim: Claim) -> Job:
    query = select(Job).where(Job.id == claim.job.id).with_for_update().execution_options(populate_existing=True)
    return session.scalars(query).one()


def _end(session: Session, claim: Claim, changes: Mapping[str, object]) -> Block | None:
    """Leave the leased state; None if the block is not held under this claim's fence any more."""
    return session.scalar(
        update(Block)
        .where(*_held(claim))
        .values(owner=None, lease_until=None, **changes)
        .returning(Block)
        .execution_options(populate_existing=True)
    )


def _retry_or_give_up(session: Session, job: Job, claim: Claim, cause: Json, attempts: int) -> bool:
    wanted = claim.image is None or session.get_one(JobImage, claim.image.id).state is ImageState.PENDING
    cancelled = job.state is JobState.CANCELLING or not wanted
    outage = cause["type"] == "unavailable"  # nothing is wrong with the block: tries are not counted, but time is
    attempt = session.scalars(select(Block.attempt).where(Block.id == claim.block.id)).one()  # `renew` may reset it
    tries_left = not _has_waited(session, claim) if outage else attempt < attempts
    if tries_left and not cancelled:
        due = func.now() + _pause(claim.fence if outage else attempt)
        tries = Block.attempt - 1 if outage else Block.attempt
        retry = {"state": BlockState.PENDING, "error": cause, "ring_at": due, "not_before": due, "attempt": tries}
        return _end(session, claim, retry) is not None
    state = BlockState.CANCELLED if cancelled else BlockState.FAILED
    block = _end(session, claim, {"state": state, "error": cause})
    if block is not None:
        stages.advance(session, job, block)
    return block is not None


def _has_waited(session: Session, claim: Claim) -> bool:
    """Whether the block was begun so long ago that an outage is no passing one."""
    waited = select(Block.id).where(Block.id == claim.block.id, Block.started_at < func.now() - LONGEST_OUTAGE)
    return session.scalar(waited) is not None


def _pause(times: int) -> timedelta:
    """Doubles with each time, up to a limit."""
    return min(timedelta(seconds=2.0 ** min(times - 1, 20)), LONGEST_PAUSE)


def _add_outcome(session: Session, claim: Claim, job: Job, outcome: Outcome) -> None:
    image = session.get_one(JobImage, claim.image.id) if claim.image else None
    if image is not None and outcome.facts is not None:
        image.facts = outcome.facts
    if job.state is not JobState.CANCELLING:
        new = ({"stage": block.stage, "ordinal": block.ordinal, "spec": block.spec} for block in outcome.blocks)
        stages.add_blocks(session, job, image, new)
    for artifact in outcome.artifacts:
        _add_artifact(session, claim, artifact, image)
    _end_images(session, claim, outcome.images)
    if outcome.model is not None:
        models.register(session, job, outcome.model)
    if job.state is not JobState.CANCELLING:
        manifests.add_images(session, job, outcome.found)
        if outcome.manifest is not None:
            manifests.settle(session, job, outcome.manifest)


def _end_images(session: Session, claim: Claim, outcomes: Sequence[ImageOutcome]) -> None:
    ids = [outcome.image_id for outcome in outcomes]
    query = select(JobImage).where(JobImage.job_id == claim.job.id, JobImage.id.in_(ids))
    images = {image.id: image for image in session.scalars(query.execution_options(populate_existing=True))}
    for outcome in outcomes:
        image = images[outcome.image_id]
        image.state = ImageState.DONE if outcome.error is None else ImageState.FAILED
        image.facts, image.result, image.error = outcome.facts or image.facts, outcome.result, outcome.error
        image.findings = list(outcome.findings)
        for artifact in outcome.artifacts:
            _add_artifact(session, claim, artifact, image)


def _add_artifact(session: Session, claim: Claim, artifact: NewArtifact, image: JobImage | None) -> None:
    session.add(
        Artifact(
            workspace_id=claim.job.workspace_id,
            job_id=claim.job.id,
            image_id=image.id if image else None,
            kind=artifact.kind,
            name=artifact.name,
            media_type=artifact.media_type,
            key=artifact.stored.key,
            sha256=artifact.stored.sha256,
            bytes=artifact.stored.bytes,
        )
    )
