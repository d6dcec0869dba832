"""Orders to preprocess."""

import hashlib
import json
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain import datasets, stages
from shared.domain.orders import versions
from shared.errors import Conflict
from shared.schemas.ingest import PreprocessIn
from shared.schemas.steps import as_json, canonical
from shared.tables import DatasetVersion, Job
from shared.tables.base import Json
from shared.tables.datasets import VersionState
from shared.tables.jobs import Stage


def specify(session: Session, workspace_id: UUID, order: PreprocessIn, version: DatasetVersion) -> Json:
    """The job's snapshot. Raises Conflict for a version that is not ready."""
    versions.refuse_invalid(version)
    if version.state is not VersionState.READY:
        raise Conflict(
            f"dataset version {version.id} is {version.state.value}, and only ready ones can be preprocessed: ingest it"
        )
    into = datasets.ensure(session, workspace_id, order.into) if order.into else version.dataset_id
    digest = hashlib.sha256(f"{_identify(session, version)} {canonical(order.steps)}".encode()).hexdigest()
    made = _find_made(session, workspace_id, into, digest)
    return {
        "dataset_version": versions.describe(version),
        "parameters": {"steps": as_json(order.steps)},
        "into": str(into),
        "cache_digest": digest,
        "known": str(made.id) if made else None,
    }


def begin(session: Session, job: Job, version: DatasetVersion) -> None:  # noqa: ARG001  # as of every kind of order
    """The job's first block: the last one, if the same was made before."""
    stages.add_block(session, job, None, Stage.CLOSE if job.spec["known"] else Stage.ARRANGE)


def _identify(session: Session, version: DatasetVersion) -> str:
    """The same text for versions of the same images, whatever their names and numbers.

    One that lacks images, as their bytes were missing when it was ingested, is like no other.
    """
    alone = str(version.id) if versions.lacks_images(session, version) else None
    ingested = version.layout, version.origin.get("ingest")
    return json.dumps([version.digest, *ingested, version.cache_digest, version.steps, alone])


def _find_made(session: Session, workspace_id: UUID, dataset_id: UUID, digest: str) -> DatasetVersion | None:
    """The version that the same steps made of the same input."""
    query = select(DatasetVersion).where(
        DatasetVersion.workspace_id == workspace_id,
        DatasetVersion.dataset_id == dataset_id,
        DatasetVersion.cache_digest == digest,
        DatasetVersion.state == VersionState.READY,
    )
    return session.scalar(query.order_by(DatasetVersion.number).limit(1))
