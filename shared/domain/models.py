"""Models: who may be called by name, and who is ready to answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from shared.domain import pages
from shared.errors import Conflict, NotFound
from shared.tables import Job, Model, ModelVersion
from shared.tables.models import ModelState


@dataclass(frozen=True)
class NewModelVersion:
    """What a training job made; its id becomes the version's. `files` maps names to the sha256 of what was stored."""

    model_id: UUID
    digest: str
    files: dict[str, str]
    contract: dict[str, Any]
    card: dict[str, Any]


def ensure(session: Session, workspace_id: UUID, name: str) -> UUID:
    """The id of the model of that name, which is made if it is new."""
    with session.begin():
        session.execute(insert(Model).values(id=uuid4(), workspace_id=workspace_id, name=name).on_conflict_do_nothing())
        return session.scalars(select(Model.id).where(Model.workspace_id == workspace_id, Model.name == name)).one()


def register(session: Session, job: Job, new: NewModelVersion) -> ModelVersion:
    """Add the version within the caller's transaction, which also commits the block that made it."""
    session.execute(select(Model.id).where(Model.id == new.model_id).with_for_update())
    last = session.scalar(select(func.max(ModelVersion.number)).where(ModelVersion.model_id == new.model_id))
    version = ModelVersion(
        id=job.id,  # known before the training ends, so that a second try stores its files under the same keys
        workspace_id=job.workspace_id,
        model_id=new.model_id,
        job_id=job.id,
        number=(last or 0) + 1,
        digest=new.digest,
        files=new.files,
        contract=new.contract,
        card=new.card,
    )
    session.add(version)
    return version


def of_job(session: Session, job: Job) -> ModelVersion:
    """The version a training job registered. Raises NotFound."""
    with session.begin():
        version = session.scalar(
            select(ModelVersion).where(ModelVersion.workspace_id == job.workspace_id, ModelVersion.job_id == job.id)
        )
    if version is None:
        raise NotFound(f"job {job.id} registered no model version")
    return version


def of_spec(session: Session, job: Job) -> ModelVersion:
    """The version that a segment job was ordered with. A registered version never changes, so its id is a snapshot."""
    version_id = UUID(job.spec["model"]["version_id"])
    query = select(ModelVersion).where(ModelVersion.workspace_id == job.workspace_id, ModelVersion.id == version_id)
    with session.begin():
        return session.scalars(query).one()


def mark(session: Session, job: Job, state: ModelState) -> None:
    """Say how the loading of the job's version ended, within the caller's transaction."""
    version = session.scalar(
        select(ModelVersion).where(ModelVersion.workspace_id == job.workspace_id, ModelVersion.job_id == job.id)
    )
    if version is not None:
        version.state = state


def resolve(session: Session, workspace_id: UUID, reference: str) -> tuple[Model, ModelVersion]:
    """`name` → its newest ready version, `name@3` → version 3, within the caller's transaction.

    Raises NotFound, or Conflict if the version is there but not ready.
    """
    name, _, number = reference.partition("@")
    query = (
        select(Model, ModelVersion)
        .join(ModelVersion, ModelVersion.model_id == Model.id)
        .where(Model.workspace_id == workspace_id, Model.name == name)
    )
    if number:
        query = query.where(ModelVersion.number == int(number))
    else:
        query = query.where(ModelVersion.state == ModelState.READY)
    row = session.execute(query.order_by(ModelVersion.number.desc()).limit(1)).first()
    if row is None:
        raise NotFound(
            f"there is no {'' if number else 'ready '}model {reference!r} in your workspace; "
            f"ready are: {', '.join(_list_ready(session, workspace_id)) or 'none'}"
        )
    model, version = row
    if version.state is not ModelState.READY:
        raise Conflict(f"model {reference!r} is {version.state.value}, not ready to be used")
    return model, version


def _list_ready(session: Session, workspace_id: UUID, most: int = 20) -> list[str]:
    ready = (
        select(Model.name, ModelVersion.number)
        .join(ModelVersion, ModelVersion.model_id == Model.id)
        .where(Model.workspace_id == workspace_id, ModelVersion.state == ModelState.READY)
    )
    rows = session.execute(ready.order_by(ModelVersion.created_at.desc()).limit(most))
    return [f"{name}@{number}" for name, number in rows]


def get(session: Session, workspace_id: UUID, name: str) -> Model:
    """The model with its versions. Raises NotFound."""
    with session.begin():
        model = session.scalar(
            select(Model)
            .where(Model.workspace_id == workspace_id, Model.name == name)
            .options(selectinload(Model.versions))
        )
    if model is None:
        raise NotFound(f"there is no model {name!r} in your workspace")
    return model


def get_version(session: Session, workspace_id: UUID, name: str, number: int) -> ModelVersion:
    """Version `number` of the model. Raises NotFound."""
    for version in get(session, workspace_id, name).versions:
        if version.number == number:
            return version
    raise NotFound(f"model {name!r} has no version {number} in your workspace")


def list_page(
    session: Session, workspace_id: UUID, *, cursor: str | None, limit: int
) -> tuple[Sequence[Model], str | None]:
    """One page of the workspace's models, the newest first."""
    query = select(Model).where(Model.workspace_id == workspace_id).options(selectinload(Model.versions))
    with session.begin():
        return pages.newest_first(session, query, row=Model, cursor=cursor, limit=limit)
