"""Ingest and preprocess jobs, worked on as a worker would, without a worker."""

from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain import blocks, jobs
from shared.domain.blocks import Claim, ImageOutcome, Outcome
from shared.domain.datasets import VersionFile
from shared.domain.dispatch import Dispatcher
from shared.domain.manifests import NewImage, NewManifest
from shared.schemas.ingest import IngestIn, PreprocessIn
from shared.tables import DatasetImage, DatasetVersion, Job, JobImage
from shared.tables.datasets import FileRole
from shared.tables.jobs import Stage
from tests.rows import must_claim

ERROR = {"type": "input", "detail": "b.png: damaged"}


def order_ingest(session: Session, dispatcher: Dispatcher, version: DatasetVersion, **how: object) -> Job:
    order = IngestIn.model_validate({"kind": "ingest", "dataset_version": version.id, **how})
    return jobs.submit(session, dispatcher, version.workspace_id, order, key=uuid4().hex)


def order_preprocess(session: Session, dispatcher: Dispatcher, version: DatasetVersion, *steps: str) -> Job:
    wanted = [{"step": step} for step in steps]
    order = PreprocessIn.model_validate({"kind": "preprocess", "dataset_version": version.id, "steps": wanted})
    return jobs.submit(session, dispatcher, version.workspace_id, order, key=uuid4().hex)


def row(name: str, *, accepted: bool = True, split: str | None = None) -> dict[str, object]:
    return {"name": name, "state": "accepted" if accepted else "rejected", "file": name, "split": split}


def commit(session: Session, dispatcher: Dispatcher, claim: Claim, outcome: Outcome) -> None:
    assert blocks.commit(session, dispatcher, claim, outcome)


def end_images(session: Session, job: Job, failed: Sequence[str] = ()) -> Outcome:
    with session.begin():
        images = session.scalars(select(JobImage).where(JobImage.job_id == job.id)).all()
    return Outcome(images=[ImageOutcome(i.id, error=ERROR if i.name in failed else None) for i in images])


def run_ingest(
    session: Session,
    dispatcher: Dispatcher,
    job: Job,
    names: Sequence[str],
    *,
    failed: Sequence[str] = (),
    **columns: object,
) -> None:
    """As a worker would: arrange, examine, report, close. `columns`: what the manifest says of each image."""
    found = [NewImage(name, 10, {"name": name}) for name in names]
    commit(session, dispatcher, must_claim(session, job), Outcome(found=found))
    commit(session, dispatcher, must_claim(session, job), end_images(session, job, failed))
    images = [row(name, accepted=name not in failed) | columns for name in names]
    manifest = NewManifest(layout="plain", summary={"images": len(names)}, images=images)
    claim = must_claim(session, job)
    assert claim.block.stage is Stage.REPORT
    commit(session, dispatcher, claim, Outcome(manifest=manifest))
    commit(session, dispatcher, must_claim(session, job), Outcome())


def state_of(session: Session, row: Job | DatasetVersion) -> object:
    with session.begin():
        session.refresh(row)
        return row.state


def manifest_of(session: Session, version: DatasetVersion) -> dict[str, str]:
    query = select(DatasetImage).where(DatasetImage.version_id == version.id).order_by(DatasetImage.ordinal)
    with session.begin():
        return {image.name: image.state.value for image in session.scalars(query)}


def run_preprocess(session: Session, dispatcher: Dispatcher, job: Job) -> None:
    commit(session, dispatcher, must_claim(session, job), Outcome(found=[NewImage("small-a.png", 1, {})]))
    commit(session, dispatcher, must_claim(session, job), end_images(session, job))
    files = [VersionFile("images/a.png", "1" * 64, 5, FileRole.IMAGE)]
    manifest = NewManifest(layout="plain", summary={}, images=[row("images/a.png", split="train")], files=files)
    commit(session, dispatcher, must_claim(session, job), Outcome(manifest=manifest))
    commit(session, dispatcher, must_claim(session, job), Outcome())
