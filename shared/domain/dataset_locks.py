"""One at a time changes which versions a dataset has, and how they are read.

The lock is the row of the dataset. Lock order is dataset, then its versions, then objects, everywhere.
"""

from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.tables import Dataset, DatasetVersion


def hold(session: Session, workspace_id: UUID, dataset_id: UUID) -> Dataset:
    """The dataset as it is now, for the caller alone until its transaction ends. Raises NotFound if it is gone."""
    dataset = _lock(session, workspace_id, Dataset.id == dataset_id)
    if dataset is None:
        raise NotFound(f"there is no dataset {dataset_id} in your workspace")
    return dataset


def hold_named(session: Session, workspace_id: UUID, name: str) -> None:
    """As `hold`, of the dataset of that name if there is one."""
    _lock(session, workspace_id, Dataset.name == name)


def hold_of_version(session: Session, workspace_id: UUID, version_id: UUID) -> None:
    """As `hold`, of the dataset that the version belongs to if there is one."""
    owner = select(DatasetVersion.dataset_id).where(DatasetVersion.id == version_id)
    _lock(session, workspace_id, Dataset.id == owner.scalar_subquery())


def _lock(session: Session, workspace_id: UUID, which: ColumnElement[bool]) -> Dataset | None:
    wanted = select(Dataset).where(Dataset.workspace_id == workspace_id, which)
    return session.scalar(wanted.with_for_update().execution_options(populate_existing=True))
