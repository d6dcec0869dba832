"""CLOSE: write down what the job did, from what, with what, so that it can be done again and compared."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select

from services.worker.context import Context
from services.worker.writers.ro_crate import describe_crate
from shared.domain import progress
from shared.domain.blocks import NewArtifact, Outcome
from shared.execution import Work
from shared.storage import Stored, job_key
from shared.tables import Artifact, Block, Job, JobImage
from shared.tables.jobs import JobKind, Stage
from shared.versions import find_versions

NAME, CRATE = "manifest.json", "ro-crate-metadata.json"
TABLES = {"equalisation", "step_facts"}  # of an image's facts
SEGMENTING = (JobKind.SEGMENT, JobKind.EVALUATE)


def close(context: Context, work: Work) -> Outcome:
    """Everything is read from the rows: what was committed, nothing else. So every try writes the same bytes."""
    job = work.claim.job
    manifest = _describe(context, job)
    artifacts = [_store(context, work, NAME, manifest)]
    if job.kind in SEGMENTING:
        whole = _as_it_ends(manifest, artifacts[0], _find_end(context, job))
        artifacts.append(_store(context, work, CRATE, describe_crate(whole)))
    return Outcome(artifacts=artifacts)


def _store(context: Context, work: Work, name: str, content: Any) -> NewArtifact:
    body = json.dumps(content, indent=2, sort_keys=True).encode()
    work.check()  # whoever lost the block must not write over what its successor, perhaps of another version, wrote
    stored = context.storage.put(job_key(work.claim.job.id, name), body)
    return NewArtifact("manifest", name, "application/json", stored)


def _find_end(context: Context, job: Job) -> datetime | None:
    """When the last of the job's results was there; None if there are none."""
    latest = select(func.max(Block.committed_at)).where(Block.job_id == job.id, Block.stage != Stage.CLOSE)
    with context.sessions() as session, session.begin():
        return session.scalar(latest)


def _as_it_ends(manifest: dict[str, Any], itself: NewArtifact, end: datetime | None) -> dict[str, Any]:
    """The manifest with what it cannot say of itself: its own hash, and that the job is over."""
    job = {**manifest["job"], "finished_at": end.isoformat(timespec="seconds") if end else None}
    listed = _describe_artifact(itself.name, itself.kind, itself.media_type, itself.stored)
    return {**manifest, "job": job, "artifacts": [*manifest["artifacts"], listed]}


def _describe(context: Context, job: Job) -> dict[str, Any]:
    with context.sessions() as session:
        stages, summary = progress.timings(session, job), progress.summarise(session, job)
        with session.begin():
            images = session.scalars(select(JobImage).where(JobImage.job_id == job.id).order_by(JobImage.ordinal)).all()
            made = session.scalars(_made_before(job)).all()
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
        "images": [_describe_image(image, is_compared=job.kind is JobKind.EVALUATE) for image in images],
        "artifacts": [_describe_artifact(a.name, a.kind, a.media_type, a) for a in made],
        "stages": [stage.model_dump() for stage in stages if stage.stage != Stage.CLOSE],  # it is not over yet
    }


def _made_before(job: Job) -> Select[Artifact]:
    """All artifacts but those of this stage."""
    own = [job_key(job.id, name) for name in (NAME, CRATE)]
    return select(Artifact).where(Artifact.job_id == job.id, Artifact.key.not_in(own)).order_by(Artifact.name)


def _describe_artifact(name: str, kind: str, media_type: str, stored: Artifact | Stored) -> dict[str, Any]:
    return {"name": name, "kind": kind, "media_type": media_type, "sha256": stored.sha256, "bytes": stored.bytes}


def _describe_entry(image: JobImage) -> dict[str, Any]:
    """Of an image that was compared with masks: what it is called, for both of two models, and the masks."""
    masks = [image.entry[part] for part in ("mask", "types") if image.entry.get(part)]
    return {
        "image": image.entry["name"],
        "masks": [{name: mask[name] for name in ("name", "sha256", "bytes")} for mask in masks],
    }


def _describe_image(image: JobImage, *, is_compared: bool) -> dict[str, Any]:
    return {
        "name": image.name,
        **(_describe_entry(image) if is_compared else {}),
        "sha256": image.sha256,
        "bytes": image.bytes,
        "state": image.state,
        # Hundreds of numbers, for each of perhaps thousands of images, that follow from the image.
        "facts": {name: value for name, value in image.facts.items() if name not in TABLES},
        "result": image.result,
        "error": image.error,
    }
