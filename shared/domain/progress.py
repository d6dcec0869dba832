"""How far a job is, what its stages took, and what was found in its images: read, never kept."""

from collections import defaultdict

from sqlalchemy import BigInteger, Float, Integer, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from shared.schemas.jobs import ProgressOut, SeamsOut, StageOut, SummaryOut
from shared.tables import Block, Job, JobImage
from shared.tables.base import Json
from shared.tables.jobs import BlockState, ImageState, Stage


def count(session: Session, job: Job) -> ProgressOut:
    """How far the job is, by blocks and by images."""
    with session.begin():
        blocks = _count(session, Block, job)
        images = _count(session, JobImage, job)
    return ProgressOut(
        blocks=sum(blocks.values()),
        done=blocks.get(BlockState.DONE, 0),
        failed=blocks.get(BlockState.FAILED, 0),
        images=sum(images.values()),
        images_done=images.get(ImageState.DONE, 0),
        images_failed=images.get(ImageState.FAILED, 0),
    )


def timings(session: Session, job: Job) -> list[StageOut]:
    """Per stage: blocks, wall time, and the seconds the workers spent per step."""
    with session.begin():
        busy = _busy_seconds(session, job)
        rows = session.execute(
            select(
                Block.stage,
                func.count(),
                func.count(Block.committed_at),
                func.extract("epoch", func.max(Block.committed_at) - func.min(Block.started_at)),
            )
            .where(Block.job_id == job.id)
            .group_by(Block.stage)
        ).all()
    order = list(Stage)
    return [
        StageOut(
            stage=stage.value,
            blocks=blocks,
            done=done,
            wall_seconds=round(float(wall or 0), 3),
            busy_seconds=busy[stage],
        )
        for stage, blocks, done, wall in sorted(rows, key=lambda row: order.index(row[0]))
    ]


def latest_note(session: Session, job: Job) -> Json:
    """The latest remark of a block that is being worked on."""
    query = select(Block.note).where(Block.job_id == job.id, Block.state == BlockState.LEASED, Block.note != {})
    with session.begin():
        return session.scalar(query.order_by(Block.lease_until.desc()).limit(1)) or {}


def summarise(session: Session, job: Job) -> SummaryOut | None:
    """What the images that are done have in common, of two models that are compared by the first; None without any."""
    facts, result = JobImage.facts, JobImage.result
    windows = cast(result["seams"]["windows"].astext, Integer)
    query = select(
        func.count(),
        func.coalesce(func.sum(cast(facts["tiles"].astext, Integer)), 0),
        func.coalesce(func.sum(cast(result["skipped_tiles"].astext, Integer)), 0),
        func.sum(windows),
        func.max(cast(result["seams"]["largest"].astext, Integer)),
        func.sum(windows * cast(result["seams"]["mean"].astext, Float)),
        func.coalesce(func.sum(cast(result["objects"]["count"].astext, BigInteger)), 0),
        func.count().filter(result.path_exists("$.quality.flags[*]")),
    ).where(
        JobImage.job_id == job.id,
        JobImage.state == ImageState.DONE,
        func.coalesce(JobImage.entry["model"].astext, "0") == "0",
    )
    with session.begin():
        images, tiles, skipped, measured, largest, total, objects, flagged = session.execute(query).one()
    if not images:
        return None
    seams = SeamsOut(windows=measured, largest=largest, mean=round(total / measured, 5)) if measured else None
    return SummaryOut(tiles=tiles, skipped_tiles=skipped, seams=seams, objects=objects, flagged_images=flagged)


def _count(session: Session, row: type[Block] | type[JobImage], job: Job) -> dict[str, int]:
    query = select(row.state, func.count()).where(row.job_id == job.id).group_by(row.state)
    return dict(session.execute(query).all())


def _busy_seconds(session: Session, job: Job) -> dict[Stage, dict[str, float]]:
    step = func.jsonb_each_text(cast(Block.result["seconds"], JSONB)).table_valued("key", "value")
    query = (
        select(Block.stage, step.c.key, func.sum(cast(step.c.value, Float)))
        .select_from(Block)
        .join(step, Block.result.has_key("seconds"))
        .where(Block.job_id == job.id)
        .group_by(Block.stage, step.c.key)
    )
    busy: dict[Stage, dict[str, float]] = defaultdict(dict)
    for stage, name, seconds in session.execute(query):
        busy[stage][name] = round(seconds, 3)
    return busy
