"""CLOSE: write down what the job did, from what, with what, so that it can be done again and compared."""

import json
from typing import Any

from sqlalchemy import select

from services.worker.context import Context
from shared.domain import progress
from shared.domain.blocks import NewArtifact, Outcome
from shared.execution import Work
from shared.storage import job_key
from shared.tables import Artifact, Job, JobImage
from shared.tables.jobs import Stage
from shared.versions import find_versions

NAME = "manifest.json"
TABLES = {"equalisation", "step_facts"}  # of an image's facts


def close(context: Context, work: Work) -> Outcome:
    """Everything in the manifest is read from the rows: what was committed, nothing else."""
    job = work.claim.job
    body = json.dumps(_describe(context, job), indent=2, sort_keys=True).encode()
    stored = context.storage.put(job_key(job.id, NAME), body)
    return Outcome(artifacts=[NewArtifact("manifest", NAME, "application/json", stored)])


def _describe(context: Context, job: Job) -> dict[str, Any]:
    with context.sessions() as session:
        stages, summary = progress.timings(session, job), progress.summarise(session, job)
        with session.begin():
            images = session.scalars(select(JobImage).where(JobImage.job_id == job.id).order_by(JobImage.ordinal)).all()
            made = session.scalars(select(Artifact).where(Artifact.job_id == job.id).order_by(Artifact.name)).all()
    return {
        "manifest_version": 1,
        "job": {"id": str(job.id), "kind": job.kind, "created_at": job.created_at.isoformat()},
        "spec": job.spec,
        "software": find_versions(),
        "summary": summary.model_dump() if summary else None,
        "images": [_describe_image(image) for image in images],
        "artifacts": [{"name": a.name, "kind": a.kind, "sha256": a.sha256, "bytes": a.bytes} for a in made],
        "stages": [stage.model_dump() for stage in stages if stage.stage != Stage.CLOSE],  # it is not over yet
    }


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
