"""/v1/datasets"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from services.api.dependencies import CallerDep, SessionDep
from services.api.routes.parameters import DEFAULT_LIMIT, CursorQuery, LimitQuery
from shared.domain import collection, datasets
from shared.schemas.datasets import DatasetIn, DatasetOut, DatasetsPage, Name
from shared.tables import Dataset

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


@router.delete("/{dataset_id}", status_code=204)
def delete_dataset(dataset_id: UUID, caller: CallerDep, session: SessionDep) -> None:
    """Delete a dataset with all its versions. 409 while a job uses one of them."""
    collection.delete_dataset(session, caller.workspace, dataset_id)
