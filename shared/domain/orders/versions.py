"""The dataset version that an order names, and the images in it."""

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from shared.domain import dataset_locks, datasets
from shared.errors import Conflict, Invalid
from shared.schemas.manifests import FILE_MISSING, NOT_EXAMINED
from shared.tables import DatasetFile, DatasetImage, DatasetVersion, Job, JobImage, StoredObject
from shared.tables.base import Json
from shared.tables.datasets import FileRole, ManifestState, VersionState


class NamesImages(Protocol):
    """An order that works on a dataset version."""

    @property
    def dataset(self) -> str | None:
        """`name` or `name@3`."""

    @property
    def dataset_version(self) -> UUID | None:
        """Instead of `dataset`."""


def find(session: Session, workspace_id: UUID, order: NamesImages) -> DatasetVersion:
    """The version that the order names. Raises NotFound."""
    if order.dataset is not None:
        return datasets.resolve(session, workspace_id, order.dataset)
    if order.dataset_version is not None:
        return datasets.find_version(session, workspace_id, order.dataset_version)
    raise Invalid("name the images by either dataset or dataset_version")


def hold_dataset(session: Session, workspace_id: UUID, order: NamesImages) -> None:
    """Let nobody else change the versions of the order's dataset within the caller's transaction.

    For orders that do so themselves, before `find`: the dataset is locked before its versions are.
    """
    if order.dataset is not None:
        dataset_locks.hold_named(session, workspace_id, order.dataset.partition("@")[0])
    elif order.dataset_version is not None:
        dataset_locks.hold_of_version(session, workspace_id, order.dataset_version)


def describe(version: DatasetVersion) -> Json:
    """The version as a job's snapshot names it."""
    return {"id": str(version.id), "number": version.number, "digest": version.digest}


def find_id(job: Job) -> UUID:
    """The version that a job was ordered with."""
    return UUID(job.spec["dataset_version"]["id"])


def accepted(session: Session, version: DatasetVersion) -> Sequence[DatasetImage]:
    """The images of a version that is ready, in its order."""
    query = select(DatasetImage).where(
        DatasetImage.workspace_id == version.workspace_id, DatasetImage.version_id == version.id
    )
    query = query.where(DatasetImage.state == ManifestState.ACCEPTED)
    return session.scalars(query.order_by(DatasetImage.ordinal)).all()


def lacks_images(session: Session, version: DatasetVersion) -> bool:
    """Whether ingest rejected images for reasons that may be gone by now: missing bytes, or a worker that died."""
    found = [DatasetImage.problems.contains([{"code": code}]) for code in (FILE_MISSING, NOT_EXAMINED)]
    lacking = exists().where(DatasetImage.workspace_id == version.workspace_id, DatasetImage.version_id == version.id)
    rejected = DatasetImage.state == ManifestState.REJECTED
    return bool(session.scalar(select(lacking.where(rejected, or_(*found)))))


def refuse_parts(session: Session, version: DatasetVersion) -> None:
    """Raises Conflict for a version that nobody has looked into and whose images are not single files."""
    files = DatasetFile.workspace_id == version.workspace_id, DatasetFile.version_id == version.id
    parts = *files, DatasetFile.role == FileRole.PART
    name = session.scalar(select(DatasetFile.name).where(*parts).order_by(DatasetFile.ordinal).limit(1))
    if name is not None:
        raise Conflict(
            f"dataset version {version.id} has images that are made of several files, such as the one of {name}: "
            "ingest it first, which finds out what belongs together"
        )


def refuse_unread(session: Session, version: DatasetVersion) -> None:
    """Raises Conflict for a version with an image or a mask whose bytes nobody has read, registered where it lies."""
    files = DatasetFile.workspace_id == version.workspace_id, DatasetFile.version_id == version.id
    unread = *files, DatasetFile.role.in_((FileRole.IMAGE, FileRole.MASK)), DatasetFile.sha256.is_(None)
    name = session.scalar(select(DatasetFile.name).where(*unread).order_by(DatasetFile.ordinal).limit(1))
    if name is not None:
        raise _unread(name)


def refuse_invalid(version: DatasetVersion) -> None:
    """Raises Conflict for a version without a sound image."""
    if version.state is VersionState.INVALID:
        raise Conflict(
            f"dataset version {version.id} is invalid: ingest accepted none of its images; its report says why"
        )


def add_images(session: Session, job: Job, version: DatasetVersion) -> list[JobImage]:
    """The rows of a job that works on every image of the version.

    Of a version that is ready these are the images that ingest accepted; of any other, the files that look like images.

    Raises Conflict if nothing can be said about the files yet, or no image is sound.
    """
    refuse_invalid(version)
    files = datasets.files_by_name(session, version.workspace_id, version.id)
    if version.state is VersionState.READY:
        # The parts of an image lie around it as they do in the dataset: then it is called by its place there.
        named = [
            (image.file or "" if image.parts else image.name, image.file or "", image.parts)
            for image in accepted(session, version)
        ]
    else:
        refuse_parts(session, version)
        named = [(name, name, []) for name, file in files.items() if file.role is FileRole.IMAGE]
    rows = [
        make_row(job, ordinal, name, files.get(file), [files[part] for part in parts])
        for ordinal, (name, file, parts) in enumerate(named)
    ]
    session.add_all(rows)
    session.flush()
    return rows


def make_row(job: Job, ordinal: int, name: str, file: DatasetFile | None, parts: Sequence[DatasetFile]) -> JobImage:
    """The row of an image of a job, not added yet. Raises Conflict for one that nobody has read.

    `file`: None of an image that is a folder, all of it in `parts`; then it is known by its first part.
    """
    for each in (file, *parts):
        if each is not None and each.object.sha256 is None:
            raise _unread(each.name)
    first = file or parts[0]
    whole = {"bytes": sum(each.bytes for each in {e.name: e for e in (first, *parts)}.values())}
    return JobImage(
        workspace_id=job.workspace_id,
        job_id=job.id,
        ordinal=ordinal,
        name=name,
        **{**describe_object(first.object), **whole},
        parts=[{"name": part.name, **describe_object(part.object)} for part in parts],
    )


def _unread(name: str) -> Conflict:
    return Conflict(f"{name} is registered in place and was never read: ingest its dataset version first")


def describe_object(stored: StoredObject) -> dict[str, Any]:
    """Where an object is and what it must be, as rows of jobs keep it."""
    return {
        "bucket": stored.bucket,
        "key": stored.key,
        "sha256": stored.sha256,
        "bytes": stored.bytes,
        "etag": stored.etag,
        "verified": stored.verified_at is not None,
    }
