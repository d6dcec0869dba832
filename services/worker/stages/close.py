"""CLOSE: write down what the job did, from what, with what, so that it can be done again and compared."""

import json
from typing import Any

from sqlalchemy import select

from services.worker.context import Context
from shared.domain import jobs
from shared.domain.blocks import NewArtifact, Outcome
from shared.execution import Work
from shared.storage import job_key
from shared.tables import Artifact, Block, Job, JobImage
from shared.tables.jobs import Stage
from shared.versions import find_versions

NAME = "manifest.json"


def close(context: Context, work: Work) -> Outcome:
    """Everything in the manifest is read from the rows: what was committed, nothing else."""
    job = work.claim.job
    body = json.dumps(_describe(context, job), indent=2, sort_keys=True).encode()
    stored = context.storage.put(job_key(job.id, NAME), body)
    return Outcome(artifacts=[NewArtifact("manifest", NAME, "application/json", stored)])


def _describe(context: Context, job: Job) -> dict[str, Any]:
    with context.sessions() as session:
        stages = jobs.timings(session, job)
        with session.begin():
            images = session.scalars(select(JobImage).where(JobImage.job_id == job.id).order_by(JobImage.ordinal)).all()
            made = session.scalars(select(Artifact).where(Artifact.job_id == job.id).order_by(Artifact.name)).all()
            found = session.execute(
                select(Block.image_id, Block.result).where(Block.job_id == job.id, Block.stage == Stage.ASSEMBLE)
            ).all()
    results = {image_id: {k: v for k, v in result.items() if k != "seconds"} for image_id, result in found}
    return {
        "manifest_version": 1,
        "job": {"id": str(job.id), "kind": job.kind, "created_at": job.created_at.isoformat()},
        "spec": job.spec,
        "software": find_versions(),
        "images": [_describe_image(image, results.get(image.id, {})) for image in images],
        "artifacts": [{"name": a.name, "kind": a.kind, "sha256": a.sha256, "bytes": a.bytes} for a in made],
        "stages": [stage.model_dump() for stage in stages if stage.stage != Stage.CLOSE],  # it is not over yet
    }


def _describe_image(image: JobImage, result: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": image.name,
        "sha256": image.sha256,
        "bytes": image.bytes,
        "state": image.state,
        # Hundreds of numbers, for each of perhaps thousands of images, that follow from the image.
        "facts": {name: value for name, value in image.facts.items() if name != "equalisation"},
        "result": result,
        "error": image.error,
    }
