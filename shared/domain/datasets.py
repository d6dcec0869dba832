"""Datasets, and what every other module asks of their versions."""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID, uuid4

from sqlalchemy import Select, delete, exists, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from shared.domain import dataset_locks, objects, pages
from shared.domain.objects import Content
from shared.errors import Conflict, Invalid, NotFound
from shared.tables import Dataset, DatasetFile, DatasetVersion
from shared.tables.datasets import FileRole, VersionState

AT_ONCE = 1000  # rows of one statement


class Listable(Protocol):
    """A file as a version lists it."""

    @property
    def name(self) -> str:
        """Unique in the version."""

    @property
    def sha256(self) -> str | None:
        """None of a foreign file that nobody read."""

    @property
    def bytes(self) -> int:
        """Its size."""

    @property
    def role(self) -> FileRole:
        """What it is for."""

    @property
    def object_id(self) -> UUID | None:
        """Where its bytes are; None: in the workspace's object of its hash."""


@dataclass(frozen=True)
class VersionFile:
    """A file that a version is to consist of."""

    name: str
    sha256: str | None
    bytes: int
    role: FileRole
    object_id: UUID | None = None


def create(session: Session, workspace_id: UUID, name: str) -> Dataset:
    """A new, empty dataset. Raises Conflict if the name is taken."""
    dataset = Dataset(workspace_id=workspace_id, name=name)
    try:
        with session.begin():
            session.add(dataset)
    except IntegrityError as error:
        raise Conflict(f"a dataset named {name!r} exists already; add a version to it instead") from error
    return dataset


def ensure(session: Session, workspace_id: UUID, name: str) -> UUID:
    """The id of the dataset of that name, made if there is none, within the caller's transaction."""
    named = select(Dataset.id).where(Dataset.workspace_id == workspace_id, Dataset.name == name)
    found = session.scalar(named)
    if found is None:
        with suppress(IntegrityError), session.begin_nested():  # somebody else may make it at the same moment
            session.add(Dataset(workspace_id=workspace_id, name=name))
        found = session.scalars(named).one()
    return found


def get(session: Session, workspace_id: UUID, dataset_id: UUID) -> Dataset:
    """The dataset. Raises NotFound."""
    with session.begin():
        dataset = session.scalar(select(Dataset).where(Dataset.workspace_id == workspace_id, Dataset.id == dataset_id))
    if dataset is None:
        raise NotFound(f"there is no dataset {dataset_id} in your workspace")
    return dataset


def list_page(
    session: Session, workspace_id: UUID, *, name: str | None, cursor: str | None, limit: int
) -> tuple[Sequence[Dataset], str | None]:
    """One page of the workspace's datasets, the newest first; only the one of `name` if given."""
    query = select(Dataset).where(Dataset.workspace_id == workspace_id)
    if name is not None:
        query = query.where(Dataset.name == name)
    with session.begin():
        return pages.newest_first(session, query, row=Dataset, cursor=cursor, limit=limit)


def add_version(
    session: Session,
    dataset: Dataset,
    *,
    files: Sequence[Listable],
    parent: DatasetVersion | None = None,
    state: VersionState = VersionState.SEALED,
    digest: str | None = None,
) -> DatasetVersion:
    """The dataset's next version, within the caller's transaction. The dataset is locked until that ends.

    `digest` identifies the version among those of the dataset: of one that has it already, that one is given back as
    it is. By default it is of the files. Raises NotFound if the dataset was deleted meanwhile.
    """
    digest = digest or digest_of(files)
    # One at a time per dataset: version numbers have no gaps and no twins.
    dataset = dataset_locks.hold(session, dataset.workspace_id, dataset.id)
    same = session.scalar(_versions(dataset).where(DatasetVersion.digest == digest))
    if same is not None:
        return same
    newest = session.scalar(select(func.max(DatasetVersion.number)).where(DatasetVersion.dataset_id == dataset.id))
    dataset.last_number = max(dataset.last_number, newest or 0) + 1
    roles = [file.role for file in files]
    version = DatasetVersion(
        workspace_id=dataset.workspace_id,
        dataset_id=dataset.id,
        number=dataset.last_number,
        digest=digest,
        images=roles.count(FileRole.IMAGE),
        masks=roles.count(FileRole.MASK),
        state=state,
        parent_id=parent.id if parent else None,
    )
    session.add(version)
    session.flush()
    _add_files(session, version, files)
    session.refresh(version)
    return version


def add_derived(session: Session, version: DatasetVersion, files: Sequence[Listable]) -> None:
    """Files that a job of the version made, within the caller's transaction, instead of those of a job before.

    Their bytes lie under `object_key`, and were announced before they were written.
    """
    of_version = DatasetFile.workspace_id == version.workspace_id, DatasetFile.version_id == version.id
    session.execute(delete(DatasetFile).where(*of_version, DatasetFile.role == FileRole.DERIVED))
    last = session.scalar(select(func.max(DatasetFile.ordinal)).where(*of_version))
    _add_files(session, version, files, first=0 if last is None else last + 1)


def get_version(session: Session, workspace_id: UUID, dataset_id: UUID, number: int) -> DatasetVersion:
    """Version `number` of the dataset. Raises NotFound."""
    query = select(DatasetVersion).where(
        DatasetVersion.workspace_id == workspace_id, DatasetVersion.dataset_id == dataset_id
    )
    with session.begin():
        version = session.scalar(query.where(DatasetVersion.number == number))
    if version is None:
        raise NotFound(f"dataset {dataset_id} has no version {number} in your workspace")
    return version


def find_version(session: Session, workspace_id: UUID, version_id: UUID) -> DatasetVersion:
    """The version of that id, not to be deleted within the caller's transaction. Raises NotFound."""
    version = session.scalar(
        _kept(
            select(DatasetVersion).where(DatasetVersion.workspace_id == workspace_id, DatasetVersion.id == version_id)
        )
    )
    if version is None:
        raise NotFound(f"there is no dataset version {version_id} in your workspace")
    return version


def resolve(session: Session, workspace_id: UUID, reference: str) -> DatasetVersion:
    """`name` → the dataset's newest version, `name@3` → version 3, not to be deleted within the caller's transaction.

    Raises NotFound, naming what there is instead.
    """
    name, _, number = reference.partition("@")
    named = (
        select(DatasetVersion)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(Dataset.workspace_id == workspace_id, Dataset.name == name)
        .order_by(DatasetVersion.number.desc())
        .limit(1)
    )
    version = session.scalar(_kept(named.where(DatasetVersion.number == int(number)) if number else named))
    if version is not None:
        return version
    newest = session.scalar(named)
    if newest is not None:
        raise NotFound(f"dataset {name!r} has no version {number} in your workspace; its newest is {newest.number}")
    raise NotFound(
        f"there is no dataset {name!r} with a sealed version in your workspace; "
        f"there are: {few(_list_sealed(session, workspace_id), most=20) or 'none'}"
    )


def list_files(session: Session, workspace_id: UUID, version_id: UUID) -> Sequence[DatasetFile]:
    """All files of a version with their `object`, in its order, within the caller's transaction."""
    return session.scalars(
        select(DatasetFile)
        .where(DatasetFile.workspace_id == workspace_id, DatasetFile.version_id == version_id)
        .options(joinedload(DatasetFile.object))
        .order_by(DatasetFile.ordinal, DatasetFile.id)
        .execution_options(populate_existing=True)  # a file that was added a moment ago has no `object` yet
    ).all()


def files_by_name(session: Session, workspace_id: UUID, version_id: UUID) -> dict[str, DatasetFile]:
    """As `list_files`, by name."""
    return {file.name: file for file in list_files(session, workspace_id, version_id)}


def find_files(session: Session, workspace_id: UUID, version_id: UUID, names: Iterable[str]) -> dict[str, DatasetFile]:
    """Those of a version's files that are called so, with their objects, within the caller's transaction."""
    wanted = sorted(set(names))
    found: dict[str, DatasetFile] = {}
    query = select(DatasetFile).where(DatasetFile.workspace_id == workspace_id, DatasetFile.version_id == version_id)
    for first in range(0, len(wanted), AT_ONCE):
        some = query.where(DatasetFile.name.in_(wanted[first : first + AT_ONCE]))
        found |= {file.name: file for file in session.scalars(some.options(joinedload(DatasetFile.object)))}
    return found


def digest_of(files: Iterable[Listable]) -> str:
    """sha256 over the sorted names, hashes and sizes. Raises Invalid where a hash is unknown."""
    unknown = [file.name for file in files if file.sha256 is None]
    if unknown:
        raise Invalid(f"nobody has read these files, so that their hashes are unknown: {few(unknown)}")
    return digest_lines(f"{file.sha256} {file.bytes} {file.name}\n" for file in files)


def digest_lines(lines: Iterable[str]) -> str:
    """sha256 over lines, whatever their order."""
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def few(texts: Sequence[str], most: int = 5) -> str:
    """The first of them, and how many more there are."""
    rest = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {rest} more" if rest > 0 else "")


def _versions(dataset: Dataset) -> Select[DatasetVersion]:
    return select(DatasetVersion).where(
        DatasetVersion.workspace_id == dataset.workspace_id, DatasetVersion.dataset_id == dataset.id
    )


def _kept(query: Select[DatasetVersion]) -> Select[DatasetVersion]:
    """Whoever deletes a version waits for those who are about to use it, or is seen by them."""
    return query.with_for_update(read=True, key_share=True, of=DatasetVersion)


def _list_sealed(session: Session, workspace_id: UUID) -> Sequence[str]:
    """Names of the datasets that have a version, the newest first."""
    sealed = exists().where(DatasetVersion.dataset_id == Dataset.id)
    query = select(Dataset.name).where(Dataset.workspace_id == workspace_id, sealed)
    return session.scalars(query.order_by(Dataset.created_at.desc())).all()


def _add_files(session: Session, version: DatasetVersion, files: Sequence[Listable], *, first: int = 0) -> None:
    placed = [file.object_id for file in files if file.object_id is not None]
    objects.touch(session, sorted(set(placed)))
    hashed = [Content(file.sha256, file.bytes) for file in files if file.object_id is None and file.sha256 is not None]
    found = objects.ensure(session, version.workspace_id, hashed)
    for content in hashed:  # who made them knows; who announced them before may have been wrong
        found[content.sha256].bytes = content.bytes
    rows = [
        {
            "id": uuid4(),
            "workspace_id": version.workspace_id,
            "version_id": version.id,
            "object_id": file.object_id or found[file.sha256 or ""].id,
            "ordinal": ordinal,
            "role": file.role,
            "name": file.name,
            "sha256": file.sha256,
            "bytes": file.bytes,
        }
        for ordinal, file in enumerate(files, first)
    ]
    for start in range(0, len(rows), AT_ONCE):
        session.execute(insert(DatasetFile), rows[start : start + AT_ONCE])
