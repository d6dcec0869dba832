"""/v1/datasets/{id}/versions"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from services.api.dependencies import CallerDep, SessionDep, StorageDep
from services.api.routes.parameters import DEFAULT_LIMIT, CursorQuery, LimitQuery, NumberPath
from shared.domain import collection, datasets, sealing, sources, versions
from shared.domain.versions import Description, Difference
from shared.schemas.datasets import (
    DatasetVersionOut,
    DetectedOut,
    DifferenceOut,
    FileOut,
    FileRoleName,
    FilesPage,
    ImageOut,
    ImagesPage,
    ImageStateName,
    VersionIn,
    VersionsPage,
)
from shared.tables import DatasetVersion
from shared.tables.datasets import FileRole, ManifestState

router = APIRouter(prefix="/v1/datasets/{dataset_id}/versions", tags=["datasets"])

DOWNLOAD_SECONDS = 3600  # how long a download URL works
SHOWN = (
    *("id", "dataset_id", "number", "digest", "images", "masks", "created_at"),
    *("layout", "job_id", "steps", "summary"),
)


def _version(dataset_id: UUID, number: NumberPath, caller: CallerDep, session: SessionDep) -> DatasetVersion:
    return datasets.get_version(session, caller.workspace, dataset_id, number)


VersionDep = Annotated[DatasetVersion, Depends(_version)]


@router.post(
    "",
    status_code=201,
    responses={200: {"model": DatasetVersionOut, "description": "these very files are a version already"}},
)
def seal_version(
    dataset_id: UUID,
    order: VersionIn,
    caller: CallerDep,
    session: SessionDep,
    storage: StorageDep,
    response: Response,
) -> DatasetVersionOut:
    """Freeze uploaded files, or files of a source, as a version. 200 if these very files are one already."""
    dataset = datasets.get(session, caller.workspace, dataset_id)
    if order.source is None:
        version, new = sealing.seal(session, storage, dataset, order.files or [], parent=order.parent)
    else:
        source = sources.find(session, caller.workspace, order.source.name)
        path = order.source.path
        version, new = sealing.register(session, storage, dataset, source, path=path, parent=order.parent)
    response.status_code = 201 if new else 200
    return _show(versions.describe(session, [version])[0])


@router.get("")
def list_versions(
    dataset_id: UUID,
    caller: CallerDep,
    session: SessionDep,
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_LIMIT,
) -> VersionsPage:
    """The versions of a dataset, the newest first."""
    dataset = datasets.get(session, caller.workspace, dataset_id)
    rows, next_cursor = versions.list_page(session, dataset, cursor=cursor, limit=limit)
    items = [_show(description) for description in versions.describe(session, rows)]
    return VersionsPage(items=items, next_cursor=next_cursor)


@router.get("/{number}")
def get_version(version: VersionDep, session: SessionDep) -> DatasetVersionOut:
    """One version: its state, where it comes from, what is in it."""
    return _show(versions.describe(session, [version])[0])


@router.get("/{number}/files")
def list_files(
    version: VersionDep,
    session: SessionDep,
    storage: StorageDep,
    role: Annotated[FileRoleName | None, Query(description="only files of this role")] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_LIMIT,
) -> FilesPage:
    """The files of a version, each with a URL to fetch it from the object store."""
    only = FileRole(role) if role else None
    rows, next_cursor = versions.list_files(session, version, role=only, cursor=cursor, limit=limit)
    items = [
        FileOut(
            name=row.name,
            role=row.role.value,
            sha256=row.sha256,
            bytes=row.bytes,
            url=storage.download_url(
                row.object.key,
                seconds=DOWNLOAD_SECONDS,
                filename=row.name.rsplit("/", 1)[-1],
                bucket=row.object.bucket,
            ),
        )
        for row in rows
    ]
    return FilesPage(items=items, next_cursor=next_cursor)


@router.get("/{number}/images")
def list_images(
    version: VersionDep,
    session: SessionDep,
    state: Annotated[ImageStateName | None, Query(description="only images in this state")] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_LIMIT,
) -> ImagesPage:
    """The manifest of a version: each image as ingest found it, and why it was rejected if it was."""
    only = ManifestState(state) if state else None
    rows, next_cursor = versions.list_images(session, version, state=only, cursor=cursor, limit=limit)
    return ImagesPage(items=[ImageOut.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.get("/{number}/difference", response_model=DifferenceOut)
def compare_versions(
    version: VersionDep,
    to: Annotated[int, Query(ge=1, lt=2**31, description="number of the version to compare with")],
    caller: CallerDep,
    session: SessionDep,
    of: Annotated[UUID | None, Query(description="its dataset, if it is another one")] = None,
) -> Difference:
    """What became of the files of this version in version `to`: added, removed, changed or the same."""
    other = datasets.get_version(session, caller.workspace, of or version.dataset_id, to)
    return versions.compare(session, version, other)


@router.delete("/{number}", status_code=204)
def delete_version(dataset_id: UUID, number: NumberPath, caller: CallerDep, session: SessionDep) -> None:
    """Delete a version. 409 while a job uses it. Files that nothing else refers to are removed from the store later."""
    collection.delete_version(session, caller.workspace, dataset_id, number)


def _show(description: Description) -> DatasetVersionOut:
    version = description.version
    origin = dict(version.origin)
    detected = origin.pop("detected", None)
    return DatasetVersionOut(
        **{name: getattr(version, name) for name in SHOWN},
        state=version.state.value,
        origin=origin,
        detected=DetectedOut.model_validate(detected) if detected else None,
        parent=description.parent,
        files=description.files,
        accepted=description.accepted,
        rejected=description.rejected,
    )
