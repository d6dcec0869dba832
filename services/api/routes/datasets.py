"""/v1/datasets"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from services.api.dependencies import CallerDep, SessionDep, StorageDep
from services.api.routes.parameters import DEFAULT_LIMIT, CursorQuery, LimitQuery, NumberPath
from shared.domain import datasets
from shared.schemas.datasets import (
    DatasetIn,
    DatasetOut,
    DatasetsPage,
    DatasetVersionOut,
    FilesIn,
    Name,
    UploadOut,
    UploadsOut,
)
from shared.tables import Dataset, DatasetVersion

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.post("", status_code=201, response_model=DatasetOut)
def create_dataset(order: DatasetIn, caller: CallerDep, session: SessionDep) -> Dataset:
    """A new, empty dataset."""
    return datasets.create(session, caller.workspace, order.name)


@router.get("")
def list_datasets(
    caller: CallerDep,
    session: SessionDep,
    name: Annotated[Name | None, Query(description="only the dataset of this name")] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_LIMIT,
) -> DatasetsPage:
    """The workspace's datasets, the newest first."""
    rows, next_cursor = datasets.list_page(session, caller.workspace, name=name, cursor=cursor, limit=limit)
    return DatasetsPage(items=[DatasetOut.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.get("/{dataset_id}", response_model=DatasetOut)
def get_dataset(dataset_id: UUID, caller: CallerDep, session: SessionDep) -> Dataset:
    """One dataset."""
    return datasets.get(session, caller.workspace, dataset_id)


@router.post("/{dataset_id}/uploads")
def request_uploads(
    dataset_id: UUID, order: FilesIn, caller: CallerDep, session: SessionDep, storage: StorageDep
) -> UploadsOut:
    """Where to PUT each file. The bytes go to the object store; files it holds already need no upload."""
    dataset = datasets.get(session, caller.workspace, dataset_id)
    urls = datasets.request_uploads(storage, dataset, order.files)
    files = [
        UploadOut(name=file.name, sha256=file.sha256, url=url) for file, url in zip(order.files, urls, strict=True)
    ]
    return UploadsOut(files=files, expires_in=datasets.UPLOAD_SECONDS)


@router.post(
    "/{dataset_id}/versions",
    status_code=201,
    response_model=DatasetVersionOut,
    responses={200: {"model": DatasetVersionOut, "description": "these very files are a version already"}},
)
def seal_version(
    dataset_id: UUID,
    order: FilesIn,
    caller: CallerDep,
    session: SessionDep,
    storage: StorageDep,
    response: Response,
) -> DatasetVersion:
    """Freeze uploaded files as a version. 200 and the version there is, if these very files are one already."""
    dataset = datasets.get(session, caller.workspace, dataset_id)
    version, new = datasets.seal(session, storage, dataset, order.files)
    response.status_code = 201 if new else 200
    return version


@router.get("/{dataset_id}/versions/{number}", response_model=DatasetVersionOut)
def get_version(dataset_id: UUID, number: NumberPath, caller: CallerDep, session: SessionDep) -> DatasetVersion:
    """One version."""
    return datasets.get_version(session, caller.workspace, dataset_id, number)
