"""Orders to ingest."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from shared.domain import datasets, file_roles, stages
from shared.domain.orders import versions
from shared.errors import Conflict, Invalid
from shared.layouts import Layout, detect
from shared.schemas.ingest import IngestIn
from shared.tables import Dataset, DatasetFile, DatasetVersion, Job
from shared.tables.base import Json
from shared.tables.datasets import FileRole, VersionState
from shared.tables.jobs import Stage

ANY_FILES = ("auto", "images_masks", "plain")  # layouts that make something of whatever images there are
KEPT = ("detected", "preprocess")  # of a version's origin, however it is read


def specify(session: Session, workspace_id: UUID, order: IngestIn, version: DatasetVersion, *, key: str) -> Json:
    """The job's snapshot. The caller holds the version's dataset; `key` tells this order from every other.

    A manifest never changes: a version that is ready, read in another way, is a new version of the same files. So is
    one that lacks images because their bytes were missing: they may have come. Raises Conflict while another job
    ingests the version, Invalid for a split of what is not there, or a layout that the files do not have.
    """
    _check_splits(session, version, order.splits)
    _check_layout(session, version, order.layout)
    parameters = order.model_dump(mode="json", include={"layout", "masks", "splits"})
    _wait_for_others(session, version)
    if version.state is VersionState.READY:
        version = _find_read(session, version, parameters) or _copy(session, workspace_id, version, parameters, key)
        _wait_for_others(session, version)
    return {
        "dataset_version": versions.describe(version),
        "parameters": parameters,
        "known": version.state is VersionState.READY,
        "found_as": {"state": version.state.value, "job_id": str(version.job_id) if version.job_id else None},
    }


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
    session.refresh(version, with_for_update={"key_share": True})
    if version.state is VersionState.INGESTING:
        raise Conflict(f"dataset version {version.id} is being ingested by job {version.job_id}; wait for it")


def _find_read(session: Session, version: DatasetVersion, parameters: Json) -> DatasetVersion | None:
    """The version of the same files that was read as asked for, or is being read so; itself rather than another."""
    kin = _list_kin(session, version)
    for one in sorted(kin, key=lambda one: (one.id != version.id, one.number)):
        ready = one.state is VersionState.READY and _says_the_same(one, parameters)
        if ready and not versions.lacks_images(session, one):
            return one
    jobs = {one.job_id: one for one in kin if one.state is VersionState.INGESTING}
    reading = select(Job).where(Job.workspace_id == version.workspace_id, Job.id.in_(jobs))
    found = [job for job in session.scalars(reading) if job.spec["parameters"] == parameters]
    return jobs[found[0].id] if found else None


def _says_the_same(version: DatasetVersion, parameters: Json) -> bool:
    """Whether the version was read as asked for; one that preprocess made is as it is."""
    read = version.origin.get("ingest")
    asked_for_nothing = parameters == {"layout": "auto", "masks": "auto", "splits": {}}
    return read == parameters or (read is None and asked_for_nothing)


def _list_kin(session: Session, version: DatasetVersion) -> Sequence[DatasetVersion]:
    """The versions of the same files, the oldest first, and this one among them."""
    root = _root_of(version)
    query = select(DatasetVersion).where(
        DatasetVersion.workspace_id == version.workspace_id, DatasetVersion.dataset_id == version.dataset_id
    )
    query = query.where(or_(DatasetVersion.digest == root, DatasetVersion.origin["files"].astext == root))
    return session.scalars(query.order_by(DatasetVersion.number).execution_options(populate_existing=True)).all()


def _root_of(version: DatasetVersion) -> str:
    """The digest of the files as they were uploaded or made, whichever copy of them this is."""
    return str(version.origin.get("files", version.digest))


def _copy(session: Session, workspace_id: UUID, version: DatasetVersion, parameters: Json, key: str) -> DatasetVersion:
    """A version of the same files that is to be read as asked for: a new one, or one whose reading came to nothing."""
    kin = {one.digest: one for one in _list_kin(session, version)}
    root, how = _root_of(version), json.dumps(parameters, sort_keys=True)
    digest = hashlib.sha256(f"{root} {how}".encode()).hexdigest()
    if digest in kin and kin[digest].state is VersionState.READY:  # it lacks images, or was read in yet another way
        digest = hashlib.sha256(f"{root} {how} {key}".encode()).hexdigest()
    if digest in kin:
        return kin[digest]
    files = datasets.list_files(session, workspace_id, version.id)
    copy = datasets.add_version(
        session,
        session.get_one(Dataset, version.dataset_id),
        files=[file for file in files if file.role is not FileRole.DERIVED],
        parent=version,
        state=VersionState.SEALED,
        digest=digest,
    )
    copy.images, copy.masks, copy.steps = version.images, version.masks, version.steps
    copy.origin = {name: version.origin[name] for name in KEPT if name in version.origin} | {"files": root}
    session.flush()
    return copy


def _check_layout(session: Session, version: DatasetVersion, ordered: str) -> None:
    """Raise Invalid for a layout that would find nothing in these files."""
    if ordered in ANY_FILES:
        return
    found = detect(_list_names(session, version))
    if Layout(ordered) not in (found.layout, *found.alternatives):
        fitting = ", ".join(layout.value for layout in dict.fromkeys((found.layout, *found.alternatives)))
        raise Invalid(
            f"layout {ordered!r} finds nothing in the files of this version; what fits their names is {fitting} "
            f"({found.why})"
        )


def _list_names(session: Session, version: DatasetVersion) -> tuple[str, ...]:
    """Of the files as they were uploaded."""
    listed = select(DatasetFile.name).where(
        DatasetFile.workspace_id == version.workspace_id, DatasetFile.version_id == version.id
    )
    return tuple(session.scalars(listed.where(DatasetFile.role != FileRole.DERIVED)))


def _check_splits(session: Session, version: DatasetVersion, places: Iterable[str]) -> None:
    """Raises Invalid for one that is neither a folder nor a file, nor begins as the pages of a file are called."""
    wanted = list(places)
    if not wanted:
        return
    names = _list_names(session, version)
    folders = file_roles.folders_of(names)
    unknown = [place for place in wanted if place not in folders and not place.startswith(names)]
    if unknown:
        raise Invalid(
            f"splits name what is neither a folder nor an image of the version: {datasets.few(unknown)}; "
            "name folders as they are in the dataset, such as images/val"
        )
