"""Orders to ingest."""

import hashlib
import json
from uuid import UUID

from sqlalchemy.orm import Session

from shared.domain import datasets, stages
from shared.domain.orders import versions
from shared.errors import Conflict
from shared.schemas.ingest import IngestIn
from shared.tables import Dataset, DatasetVersion, Job
from shared.tables.base import Json
from shared.tables.datasets import FileRole, VersionState
from shared.tables.jobs import Stage


def specify(session: Session, workspace_id: UUID, order: IngestIn, version: DatasetVersion) -> Json:
    """The job's snapshot. Raises Conflict while another job ingests the version.

    A manifest never changes: a version that is ready, read in another way, is a new version of the same files.
    """
    parameters = order.model_dump(mode="json", include={"layout", "masks", "splits"})
    _wait_for_others(session, version)
    if version.state is VersionState.READY and not _says_the_same(version, parameters):
        version = _copy(session, workspace_id, version, parameters)
        _wait_for_others(session, version)  # it may have been copied before
    known = version.state is VersionState.READY
    return {"dataset_version": versions.describe(version), "parameters": parameters, "known": known}


def begin(session: Session, job: Job, version: DatasetVersion) -> None:
    """The job's first block, if there is anything to do."""
    if job.spec["known"]:
        stages.add_block(session, job, None, Stage.CLOSE)
        return
    version = datasets.find_version(session, job.workspace_id, versions.find_id(job))
    version.state, version.job_id = VersionState.INGESTING, job.id
    stages.add_block(session, job, None, Stage.ARRANGE)


def _wait_for_others(session: Session, version: DatasetVersion) -> None:
    """One order at a time, until it is stored. Raises Conflict while a job ingests the version."""
    session.refresh(version, with_for_update=True)
    if version.state is VersionState.INGESTING:
        raise Conflict(f"dataset version {version.id} is being ingested by job {version.job_id}; wait for it")


def _says_the_same(version: DatasetVersion, parameters: Json) -> bool:
    """Whether the version was read as asked for; one that preprocess made is as it is."""
    read = version.origin.get("ingest")
    asked_for_nothing = parameters == {"layout": "auto", "masks": "auto", "splits": {}}
    return read == parameters or (read is None and asked_for_nothing)


def _copy(session: Session, workspace_id: UUID, version: DatasetVersion, parameters: Json) -> DatasetVersion:
    files = datasets.list_files(session, workspace_id, version.id)
    how = json.dumps(parameters, sort_keys=True)
    return datasets.add_version(
        session,
        session.get_one(Dataset, version.dataset_id),
        files=[file for file in files if file.role is not FileRole.DERIVED],
        parent=version,
        state=VersionState.SEALED,
        digest=hashlib.sha256(f"{version.digest} {how}".encode()).hexdigest(),
    )
