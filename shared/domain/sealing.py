"""A list of files becomes a version: files that were uploaded, or files that lie in a lab's own bucket."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from shared.domain import dataset_locks, datasets, file_roles, objects, sources, uploads
from shared.domain.datasets import VersionFile, few
from shared.domain.objects import Content
from shared.errors import Invalid
from shared.layouts.detection import detect
from shared.schemas.datasets import DERIVED, FileIn
from shared.storage import Listed, Storage
from shared.tables import Dataset, DatasetVersion, Source, StoredObject
from shared.tables.datasets import FileRole

Sealed = tuple[DatasetVersion, bool]  # the version, and whether it is new


def seal(
    session: Session, storage: Storage, dataset: Dataset, files: Sequence[FileIn], *, parent: int | None = None
) -> Sealed:
    """Freeze `files` as the next version; the same files again give the version there is.

    `parent`: number of the version that this one goes on from; the newest by default. Raises Invalid, naming the
    files, where a name cannot stand beside the others or the store lacks bytes or has another number of them, and
    NotFound if the dataset was deleted meanwhile.
    """
    _check_names([file.name for file in files])
    roles, images = file_roles.tell(file.name for file in files)
    # Announced first: nobody collects an object between the look at it and the version that refers to it.
    rows = objects.announce(session, dataset.workspace_id, [Content(file.sha256, file.bytes) for file in files])
    _check_stored(storage, rows, files)
    with session.begin():
        dataset = dataset_locks.hold(session, dataset.workspace_id, dataset.id)
        for file in files:
            rows[file.sha256].bytes = file.bytes
        listed = [VersionFile(f.name, f.sha256, f.bytes, roles[f.name], rows[f.sha256].id) for f in files]
        return _freeze(session, dataset, listed, datasets.digest_of(listed), images=images, parent=parent)


def register(
    session: Session, storage: Storage, dataset: Dataset, source: Source, *, path: str, parent: int | None = None
) -> Sealed:
    """Freeze what lies below `path` of the source as the next version. Nothing is copied, now or later.

    Raises as `seal` does, and as `sources.list_below`.
    """
    files = sources.list_below(storage, source, path)
    _check_names(list(files))
    roles, images = file_roles.tell(files)
    digest = datasets.digest_lines(f"{one.etag} {one.bytes} {name}\n" for name, one in files.items())
    with session.begin():
        dataset = dataset_locks.hold(session, dataset.workspace_id, dataset.id)
        rows = objects.register(session, dataset.workspace_id, source.bucket, list(files.values()))
        listed = [_foreign(name, one, rows, roles) for name, one in sorted(files.items())]
        return _freeze(session, dataset, listed, digest, images=images, parent=parent)


def _foreign(name: str, one: Listed, rows: Mapping[str, StoredObject], roles: Mapping[str, FileRole]) -> VersionFile:
    row = rows[one.key]
    return VersionFile(name, row.sha256, one.bytes, roles[name], row.id)


def _freeze(
    session: Session,
    dataset: Dataset,
    files: Sequence[VersionFile],
    digest: str,
    *,
    images: int,
    parent: int | None,
) -> Sealed:
    same = session.scalar(_versions(dataset).where(DatasetVersion.digest == digest))
    if same is not None:
        return same, False
    before = _find_parent(session, dataset, parent)
    version = datasets.add_version(session, dataset, files=files, parent=before, digest=digest)
    version.images = images
    version.origin = {"detected": asdict(detect(file.name for file in files))}
    session.flush()
    return version, True


def _find_parent(session: Session, dataset: Dataset, number: int | None) -> DatasetVersion | None:
    versions = _versions(dataset)
    if number is None:
        return session.scalar(versions.order_by(DatasetVersion.number.desc()).limit(1))
    parent = session.scalar(versions.where(DatasetVersion.number == number))
    if parent is None:
        raise Invalid(f"dataset {dataset.name!r} has no version {number} that this one could go on from")
    return parent


def _versions(dataset: Dataset) -> Select[DatasetVersion]:
    return select(DatasetVersion).where(
        DatasetVersion.workspace_id == dataset.workspace_id, DatasetVersion.dataset_id == dataset.id
    )


def _check_names(names: Sequence[str]) -> None:
    """Raises Invalid where files would be in each other's way, or in that of files that jobs make."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise Invalid(f"each file needs a name of its own; more than one is called: {few(sorted(twice))}")
    reserved = sorted(name for name in names if name.startswith(DERIVED))
    if reserved:
        raise Invalid(f"the folder {DERIVED} is kept for what jobs make of a dataset; rename it: {few(reserved)}")
    both = sorted(file_roles.folders_of(names).intersection(names))
    if both:
        raise Invalid(f"these are names of a file and of a folder at once, which no disk can hold: {few(both)}")


def _check_stored(storage: Storage, rows: Mapping[str, StoredObject], files: Sequence[FileIn]) -> None:
    there = uploads.look_up(storage, rows)
    sizes = {sha256: None if found is None else found.bytes for sha256, found in there.items()}
    wrong = [
        f"{file.name} ({'not uploaded' if size is None else f'{size} bytes stored, {file.bytes} announced'})"
        for file in files
        if (size := sizes[file.sha256]) != file.bytes
    ]
    if wrong:
        raise Invalid(f"ask for upload URLs and send these files first: {few(wrong)}")
