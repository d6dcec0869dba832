"""Datasets: uploads go straight to the store, a version freezes a list of files."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.domain import pages
from shared.errors import Conflict, Invalid, NotFound
from shared.schemas.datasets import FileIn
from shared.storage import Storage, upload_key
from shared.tables import Dataset, DatasetFile, DatasetVersion
from shared.tables.datasets import FileRole

UPLOAD_SECONDS = 3600  # how long an upload URL works
LOOKUPS = 16  # size questions to the store at once


def create(session: Session, workspace_id: UUID, name: str) -> Dataset:
    """A new, empty dataset. Raises Conflict if the name is taken."""
    dataset = Dataset(workspace_id=workspace_id, name=name)
    try:
        with session.begin():
            session.add(dataset)
    except IntegrityError as error:
        raise Conflict(f"a dataset named {name!r} exists already; add a version to it instead") from error
    return dataset


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


def request_uploads(storage: Storage, dataset: Dataset, files: Sequence[FileIn]) -> list[str | None]:
    """For each file a URL to PUT its bytes to, None where the store holds them already."""
    keys = [upload_key(dataset.id, file.sha256) for file in files]
    sizes = _sizes(storage, keys)
    return [
        None if sizes[key] == file.bytes else storage.upload_url(key, seconds=UPLOAD_SECONDS)
        for file, key in zip(files, keys, strict=True)
    ]


def seal(session: Session, storage: Storage, dataset: Dataset, files: Sequence[FileIn]) -> tuple[DatasetVersion, bool]:
    """Freeze `files` as the next version; the same files again give the version there is. True if it is new.

    Raises Invalid, naming the files, where a name stands twice or the store lacks bytes or has another number of them.
    """
    _check_names(files)
    _check_stored(storage, dataset, files)
    digest = _digest(files)
    with session.begin():
        # One at a time per dataset: version numbers have no gaps and no twins.
        session.execute(select(Dataset.id).where(Dataset.id == dataset.id).with_for_update())
        same = session.scalar(
            select(DatasetVersion).where(DatasetVersion.dataset_id == dataset.id, DatasetVersion.digest == digest)
        )
        if same is not None:
            return same, False
        return _add_version(session, dataset, files, digest), True


def get_version(session: Session, workspace_id: UUID, dataset_id: UUID, number: int) -> DatasetVersion:
    """Version `number` of the dataset. Raises NotFound."""
    with session.begin():
        version = session.scalar(
            select(DatasetVersion).where(
                DatasetVersion.workspace_id == workspace_id,
                DatasetVersion.dataset_id == dataset_id,
                DatasetVersion.number == number,
            )
        )
    if version is None:
        raise NotFound(f"dataset {dataset_id} has no version {number} in your workspace")
    return version


def find_version(session: Session, workspace_id: UUID, version_id: UUID) -> DatasetVersion:
    """The version of that id, within the caller's transaction. Raises NotFound."""
    version = session.scalar(
        select(DatasetVersion).where(DatasetVersion.workspace_id == workspace_id, DatasetVersion.id == version_id)
    )
    if version is None:
        raise NotFound(f"there is no dataset version {version_id} in your workspace")
    return version


def resolve(session: Session, workspace_id: UUID, reference: str) -> DatasetVersion:
    """`name` → the dataset's newest version, `name@3` → version 3, within the caller's transaction.

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
    version = session.scalar(named.where(DatasetVersion.number == int(number)) if number else named)
    if version is not None:
        return version
    newest = session.scalar(named)
    if newest is not None:
        raise NotFound(f"dataset {name!r} has no version {number} in your workspace; its newest is {newest.number}")
    raise NotFound(
        f"there is no dataset {name!r} with a sealed version in your workspace; "
        f"there are: {_few(_list_sealed(session, workspace_id), most=20) or 'none'}"
    )


def list_files(session: Session, workspace_id: UUID, version_id: UUID) -> Sequence[DatasetFile]:
    """All files of a version, in its order, within the caller's transaction."""
    return session.scalars(
        select(DatasetFile)
        .where(DatasetFile.workspace_id == workspace_id, DatasetFile.version_id == version_id)
        .order_by(DatasetFile.ordinal)
    ).all()


def _list_sealed(session: Session, workspace_id: UUID) -> Sequence[str]:
    """Names of the datasets that have a version, the newest first."""
    sealed = exists().where(DatasetVersion.dataset_id == Dataset.id)
    query = select(Dataset.name).where(Dataset.workspace_id == workspace_id, sealed)
    return session.scalars(query.order_by(Dataset.created_at.desc())).all()


def _add_version(session: Session, dataset: Dataset, files: Sequence[FileIn], digest: str) -> DatasetVersion:
    last = session.scalar(select(func.max(DatasetVersion.number)).where(DatasetVersion.dataset_id == dataset.id))
    roles = [_role(file.name) for file in files]
    version = DatasetVersion(
        workspace_id=dataset.workspace_id,
        dataset_id=dataset.id,
        number=(last or 0) + 1,
        digest=digest,
        images=roles.count(FileRole.IMAGE),
        masks=roles.count(FileRole.MASK),
    )
    session.add(version)
    session.flush()
    for ordinal, (file, role) in enumerate(zip(files, roles, strict=True)):
        row = {"name": file.name, "sha256": file.sha256, "bytes": file.bytes, "role": role, "ordinal": ordinal}
        session.add(DatasetFile(workspace_id=dataset.workspace_id, version_id=version.id, **row))
    return version


def _role(name: str) -> FileRole:
    return FileRole.MASK if "masks" in name.split("/")[:-1] else FileRole.IMAGE


def _digest(files: Sequence[FileIn]) -> str:
    lines = sorted(f"{file.sha256} {file.bytes} {file.name}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _check_names(files: Sequence[FileIn]) -> None:
    twice = [name for name, times in Counter(file.name for file in files).items() if times > 1]
    if twice:
        raise Invalid(f"each file needs a name of its own; more than one is called: {_few(sorted(twice))}")


def _check_stored(storage: Storage, dataset: Dataset, files: Sequence[FileIn]) -> None:
    sizes = _sizes(storage, [upload_key(dataset.id, file.sha256) for file in files])
    wrong = [
        f"{file.name} ({'not uploaded' if size is None else f'{size} bytes stored, {file.bytes} announced'})"
        for file in files
        if (size := sizes[upload_key(dataset.id, file.sha256)]) != file.bytes
    ]
    if wrong:
        raise Invalid(f"ask for upload URLs and send these files first: {_few(wrong)}")


def _sizes(storage: Storage, keys: Sequence[str]) -> dict[str, int | None]:
    different = sorted(set(keys))
    with ThreadPoolExecutor(LOOKUPS) as pool:
        return dict(zip(different, pool.map(storage.size, different), strict=True))


def _few(texts: Sequence[str], most: int = 5) -> str:
    rest = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {rest} more" if rest > 0 else "")
