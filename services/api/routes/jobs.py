"""/v1/jobs"""

import asyncio
import time
from contextlib import suppress
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Header, Query
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from services.api.dependencies import CallerDep, DispatcherDep, EndingsDep, SessionDep, StorageDep
from services.api.routes.parameters import DEFAULT_LIMIT, CursorQuery, LimitQuery
from shared.domain import artifacts, blocks, jobs, manifests, progress
from shared.schemas.jobs import (
    ArtifactOut,
    ArtifactsPage,
    JobDetailOut,
    JobImageOut,
    JobImagesPage,
    JobIn,
    JobOut,
    JobsPage,
    ResultOut,
)
from shared.tables import Job
from shared.tables.jobs import JobKind, JobState, Stage

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

DOWNLOAD_SECONDS = 3600  # how long a download URL works
LONGEST_WAIT = 30.0  # seconds; proxies close connections that are silent for a minute
LOOK_SECONDS = 5.0  # between two looks at a job that somebody waits for, should its end not be told
KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="any text of your own; the same order sent again under the same key gives the same job",
    ),
]


@router.post("", status_code=202, response_model=JobOut)
def submit_job(
    order: JobIn, caller: CallerDep, session: SessionDep, dispatcher: DispatcherDep, idempotency_key: KeyHeader = None
) -> Job:
    """Accept a job; the work happens later, in the workers."""
    return jobs.submit(session, dispatcher, caller.workspace, order, key=idempotency_key or uuid4().hex)


@router.get("")
def list_jobs(
    caller: CallerDep,
    session: SessionDep,
    state: Annotated[JobState | None, Query(description="only jobs in this state")] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_LIMIT,
) -> JobsPage:
    """The workspace's jobs, the newest first."""
    rows, next_cursor = jobs.list_page(session, caller.workspace, state=state, cursor=cursor, limit=limit)
    return JobsPage(items=[JobOut.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.get("/{job_id}")
async def get_job(
    job_id: UUID,
    caller: CallerDep,
    session: SessionDep,
    endings: EndingsDep,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="seconds to wait for the job's end, at most")] = 0,
) -> JobDetailOut:
    """One job: state, progress by blocks, timings by stage, and the cause if it failed."""
    until = time.monotonic() + wait
    with endings.watch(job_id) as ended:  # before the first look: it may end in between
        while (left := until - time.monotonic()) > 0:
            ended.clear()
            if await run_in_threadpool(jobs.has_ended, session, caller.workspace, job_id):
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), min(LOOK_SECONDS, left))
    return await run_in_threadpool(_describe, session, caller.workspace, job_id)


@router.get("/{job_id}/images")
def list_images(
    job_id: UUID, caller: CallerDep, session: SessionDep, cursor: CursorQuery = None, limit: LimitQuery = DEFAULT_LIMIT
) -> JobImagesPage:
    """The images of a job, each with its state and, if it failed, the cause."""
    rows, next_cursor = jobs.list_images(session, caller.workspace, job_id, cursor=cursor, limit=limit)
    return JobImagesPage(items=[JobImageOut.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.get("/{job_id}/artifacts")
def list_artifacts(
    job_id: UUID,
    caller: CallerDep,
    session: SessionDep,
    storage: StorageDep,
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_LIMIT,
) -> ArtifactsPage:
    """What the job made so far, each with a URL to fetch it from the object store."""
    rows, next_cursor = artifacts.list_page(session, caller.workspace, job_id, cursor=cursor, limit=limit)
    items = [
        ArtifactOut(
            id=row.id,
            image=image,
            kind=row.kind,
            name=row.name,
            media_type=row.media_type,
            bytes=row.bytes,
            sha256=row.sha256,
            url=storage.download_url(row.key, seconds=DOWNLOAD_SECONDS, filename=row.name.rsplit("/", 1)[-1]),
        )
        for row, image in rows
    ]
    return ArtifactsPage(items=items, next_cursor=next_cursor)


@router.post("/{job_id}/cancel", status_code=202, response_model=JobOut)
def cancel_job(job_id: UUID, caller: CallerDep, session: SessionDep) -> Job:
    """End a job without its result. What is being worked on stops within a tile."""
    return jobs.cancel(session, caller.workspace, job_id)


def _describe(session: Session, workspace_id: UUID, job_id: UUID) -> JobDetailOut:
    job = jobs.get(session, workspace_id, job_id)
    made = manifests.find_result(session, job) if job.state.final else None
    is_segmented = job.state.final and job.kind in (JobKind.SEGMENT, JobKind.EVALUATE)
    return JobDetailOut(
        **JobOut.model_validate(job).model_dump(),
        progress=progress.count(session, job),
        stages=progress.timings(session, job),
        summary=progress.summarise(session, job) if is_segmented else None,
        evaluation=blocks.result_of_job(session, job, Stage.SUMMARISE).get("scores") if is_segmented else None,
        result=ResultOut.model_validate(made) if made else None,
        note=progress.latest_note(session, job),
    )
