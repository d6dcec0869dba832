"""Artifacts: what a job made."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain import jobs, pages
from shared.tables import Artifact, JobImage


def list_page(
    session: Session, workspace_id: UUID, job_id: UUID, *, cursor: str | None, limit: int
) -> tuple[Sequence[tuple[Artifact, str | None]], str | None]:
    """One page of the job's artifacts, each with the name of its image. Raises NotFound for an unknown job."""
    job = jobs.get(session, workspace_id, job_id)
    query = select(Artifact).where(Artifact.workspace_id == workspace_id, Artifact.job_id == job.id)
    with session.begin():
        rows, next_cursor = pages.oldest_first(session, query, row=Artifact, cursor=cursor, limit=limit)
        ids = {row.image_id for row in rows if row.image_id}
        named = select(JobImage.id, JobImage.name).where(JobImage.job_id == job.id, JobImage.id.in_(ids))
        names = dict(session.execute(named).all())
    return [(row, names.get(row.image_id) if row.image_id else None) for row in rows], next_cursor


def hashes_of_image(session: Session, image: JobImage, *, kind: str) -> dict[str, str]:
    """Key → sha256 of all artifacts of that kind which belong to the image; there may be thousands."""
    query = select(Artifact.key, Artifact.sha256).where(
        Artifact.job_id == image.job_id, Artifact.image_id == image.id, Artifact.kind == kind
    )
    with session.begin():
        return dict(session.execute(query).all())
