"""Manifests: what ingest and preprocess say about the images of a dataset version."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from sqlalchemy import delete, insert, or_, select
from sqlalchemy.orm import Session

from shared.domain import dataset_locks, datasets, objects
from shared.domain.datasets import VersionFile
from shared.domain.objects import Verified
from shared.domain.orders import bundles, versions
from shared.schemas.manifests import FILE_MISSING, NOT_EXAMINED
from shared.schemas.steps import as_json, image_steps, read_steps
from shared.tables import DatasetImage, DatasetVersion, Job, JobImage
from shared.tables.base import Json
from shared.tables.datasets import ManifestState, VersionState
from shared.tables.jobs import ImageState, JobKind, Stage

AT_ONCE = 500  # rows
STAGE_OF = {JobKind.INGEST: Stage.EXAMINE, JobKind.PREPROCESS: Stage.TRANSFORM}


@dataclass(frozen=True)
class NewImage:
    """An image that a job is to work on, as arranging found it. `bytes`: of everything that is read for it."""

    name: str
    bytes: int
    entry: Json


@dataclass(frozen=True)
class NewManifest:
    """What becomes of a version at the end of an ingest, or a new version at the end of a preprocess."""

    layout: str | None
    summary: Json
    images: Sequence[Json]  # columns of DatasetImage
    files: Sequence[VersionFile] = ()  # that were made, announced and stored
    read: Mapping[str, Verified] = field(default_factory=dict)  # by file name

    @property
    def state(self) -> VersionState:
        """Ready, if an image may be used."""
        accepted = any(image["state"] == ManifestState.ACCEPTED for image in self.images)
        return VersionState.READY if accepted else VersionState.INVALID


def add_images(session: Session, job: Job, images: Sequence[NewImage]) -> None:
    """The images of a job that arranged its version, and the blocks that work on them."""
    rows = [
        JobImage(
            workspace_id=job.workspace_id,
            job_id=job.id,
            ordinal=ordinal,
            name=image.name,
            key="",  # it is made of what its entry names
            sha256="",
            bytes=image.bytes,
            entry=image.entry,
        )
        for ordinal, image in enumerate(images)
    ]
    session.add_all(rows)
    session.flush()
    if not rows:
        return
    stage = STAGE_OF[job.kind]
    bundles.add_blocks(session, job, rows, together=stage, alone=stage)


def settle(session: Session, job: Job, manifest: NewManifest) -> None:
    """Make the manifest stand: in the version that was ingested, or in a new one that preprocess made."""
    version = _ingested(session, job, manifest) if job.kind is JobKind.INGEST else _made(session, job, manifest)
    if version is None:
        return
    owner = {"workspace_id": version.workspace_id, "version_id": version.id}
    before = DatasetImage.workspace_id == version.workspace_id, DatasetImage.version_id == version.id
    session.execute(delete(DatasetImage).where(*before))  # of an ingest that accepted none of them
    for first in range(0, len(manifest.images), AT_ONCE):
        some = enumerate(manifest.images[first : first + AT_ONCE], first)
        rows = [{"id": uuid4(), **owner, "ordinal": ordinal, **row} for ordinal, row in some]
        session.execute(insert(DatasetImage), rows)


def walk_images(session: Session, job: Job) -> Iterator[JobImage]:
    """The job's images in their order, a few at a time."""
    query = select(JobImage).where(JobImage.workspace_id == job.workspace_id, JobImage.job_id == job.id)
    with session.begin():
        yield from session.scalars(query.order_by(JobImage.ordinal).execution_options(yield_per=AT_ONCE))


def find_result(session: Session, job: Job) -> DatasetVersion | None:
    """The version that the job ingested or made, or that was there already."""
    if job.kind not in STAGE_OF:
        return None
    known = job.spec.get("known")
    with session.begin():
        if job.kind is JobKind.INGEST or known:
            id_ = UUID(known) if isinstance(known, str) else versions.find_id(job)
            return session.scalar(
                select(DatasetVersion).where(DatasetVersion.workspace_id == job.workspace_id, DatasetVersion.id == id_)
            )
        made = select(DatasetVersion).where(
            DatasetVersion.workspace_id == job.workspace_id, DatasetVersion.dataset_id == UUID(job.spec["into"])
        )
        own, twins = DatasetVersion.job_id == job.id, DatasetVersion.cache_digest == job.spec["cache_digest"]
        found = session.scalars(made.where(or_(own, twins)).order_by(DatasetVersion.number)).all()
        return next((version for version in found if version.job_id == job.id), next(iter(found), None))


def _ingested(session: Session, job: Job, manifest: NewManifest) -> DatasetVersion | None:
    version = datasets.find_version(session, job.workspace_id, versions.find_id(job))
    datasets.add_derived(session, version, manifest.files)
    _mark_read(session, version, manifest.read)
    version.state, version.layout, version.summary = manifest.state, manifest.layout, manifest.summary
    version.origin = {**version.origin, "ingest": job.spec["parameters"]}
    return version


def _mark_read(session: Session, version: DatasetVersion, read: Mapping[str, Verified]) -> None:
    """What the bytes of the version's files turned out to be: from now on they are known by it."""
    files = datasets.find_files(session, version.workspace_id, version.id, read)
    objects.mark_verified(session, {files[name].object_id: found for name, found in read.items()})


def _made(session: Session, job: Job, manifest: NewManifest) -> DatasetVersion | None:
    """A new version; None if a twin of this job made the same before.

    One that lacks images, for reasons that may be gone another time, is not given to who orders the same again.
    """
    if manifest.state is VersionState.INVALID:
        return None
    into = dataset_locks.hold(session, job.workspace_id, UUID(job.spec["into"]))
    source = datasets.find_version(session, job.workspace_id, versions.find_id(job))
    whole, digest = _is_whole(session, job, manifest), job.spec["cache_digest"]
    version = datasets.add_version(
        session,
        into,
        files=manifest.files,
        parent=source if source.dataset_id == into.id else None,
        state=VersionState.READY,
        digest=digest if whole else hashlib.sha256(f"{digest} {job.id}".encode()).hexdigest(),
    )
    if version.job_id is not None:
        return None
    version.cache_digest, version.job_id = digest if whole else None, job.id
    version.layout, version.summary = manifest.layout, manifest.summary
    version.steps = [*source.steps, *as_json(image_steps(read_steps(job.spec["parameters"]["steps"])))]
    version.origin = {"preprocess": {"version": versions.describe(source), **job.spec["parameters"]}}
    return version


def _is_whole(session: Session, job: Job, manifest: NewManifest) -> bool:
    """Whether the same job, done again, would fail for the same images."""
    problems = [problem["code"] for image in manifest.images for problem in image.get("problems", ())]
    failed = select(JobImage.error).where(JobImage.job_id == job.id, JobImage.state == ImageState.FAILED)
    return not {FILE_MISSING, NOT_EXAMINED}.intersection(problems) and all(
        error is not None and error["type"] == "input" for error in session.scalars(failed)
    )
