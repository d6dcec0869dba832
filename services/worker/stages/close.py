"""CLOSE: write down what the job did, from what, with what, so that it can be done again and compared; tidy up."""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from services.worker.context import Context
from services.worker.writers.ro_crate import describe_crate
from shared.domain import progress
from shared.domain.blocks import NewArtifact, Outcome
from shared.execution import Work
from shared.storage import Stored, job_key
from shared.tables import Artifact, Job, JobImage
from shared.tables.jobs import JobKind, Stage
from shared.versions import find_versions

NAME, CRATE = "manifest.json", "ro-crate-metadata.json"
TABLES = {"equalisation", "step_facts"}  # of an image's facts
SEGMENTING = (JobKind.SEGMENT, JobKind.EVALUATE)


def close(context: Context, work: Work) -> Outcome:
    """Everything in the manifest is read from the rows: what was committed, nothing else."""
    job = work.claim.job
    manifest = _describe(context, job)
    artifacts = [_store(context, job, NAME, manifest)]
    if job.kind in SEGMENTING:
        artifacts.append(_store(context, job, CRATE, describe_crate(_as_it_ends(manifest, artifacts[0]))))
        work.check()  # whoever lost the block must not take away what its successor wrote
        tidy(context, job)
    return Outcome(artifacts=artifacts)


def tidy(context: Context, job: Job) -> None:
    """Remove what the job wrote for itself alone: all that no row knows of."""
    query = select(Artifact.key).where(Artifact.workspace_id == job.workspace_id, Artifact.job_id == job.id)
    with context.sessions() as session, session.begin():
        known = set(session.scalars(query))
    known |= {job_key(job.id, NAME), job_key(job.id, CRATE)}
    for found in context.storage.list_objects(job_key(job.id, "")):
        if found.key not in known:
            context.storage.delete(found.key)


def _store(context: Context, job: Job, name: str, content: Any) -> NewArtifact:
    body = json.dumps(content, indent=2, sort_keys=True).encode()
    return NewArtifact("manifest", name, "application/json", context.storage.put(job_key(job.id, name), body))


def _as_it_ends(manifest: dict[str, Any], itself: NewArtifact) -> dict[str, Any]:
    """The manifest with what it cannot say of itself: its own hash, and that the job is over."""
    job = {**manifest["job"], "finished_at": datetime.now(UTC).isoformat(timespec="seconds")}
    listed = _describe_artifact(itself.name, itself.kind, itself.media_type, itself.stored)
    return {**manifest, "job": job, "artifacts": [*manifest["artifacts"], listed]}


def _describe(context: Context, job: Job) -> dict[str, Any]:
    with context.sessions() as session:
        stages, summary = progress.timings(session, job), progress.summarise(session, job)
        with session.begin():
            images = session.scalars(select(JobImage).where(JobImage.job_id == job.id).order_by(JobImage.ordinal)).all()
            made = session.scalars(select(Artifact).where(Artifact.job_id == job.id).order_by(Artifact.name)).all()
    return {
        "manifest_version": 1,
        "job": {
            "id": str(job.id),
            "kind": job.kind,
            "created_at": job.created_at.isoformat(),
            "started_at": job.started_at.isoformat() if job.started_at else None,
        },
        "spec": job.spec,
        "software": find_versions(),
        "summary": summary.model_dump() if summary else None,
        "images": [_describe_image(image) for image in images],
        "artifacts": [_describe_artifact(a.name, a.kind, a.media_type, a) for a in made],
        "stages": [stage.model_dump() for stage in stages if stage.stage != Stage.CLOSE],  # it is not over yet
    }


def _describe_artifact(name: str, kind: str, media_type: str, stored: Artifact | Stored) -> dict[str, Any]:
    return {"name": name, "kind": kind, "media_type": media_type, "sha256": stored.sha256, "bytes": stored.bytes}


def _describe_image(image: JobImage) -> dict[str, Any]:
    return {
        "name": image.name,
        "sha256": image.sha256,
        "bytes": image.bytes,
        "state": image.state,
        # Hundreds of numbers, for each of perhaps thousands of images, that follow from the image.
        "facts": {name: value for name, value in image.facts.items() if name not in TABLES},
        "result": image.result,
        "error": image.error,
    }
