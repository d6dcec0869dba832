"""Models: who may be called by name or alias, and who is ready to answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from shared.domain import pages
from shared.errors import Conflict, NotFound
from shared.schemas.jobs import choose_model
from shared.tables import Job, JobImage, Model, ModelAlias, ModelAliasMove, ModelVersion
from shared.tables.base import Json
from shared.tables.models import ModelState

WHOLE = (selectinload(Model.versions), selectinload(Model.alias_rows))  # what users see of a model


@dataclass(frozen=True)
class NewModelVersion:
    """What a training made or an import brought; the job's id becomes the version's.

    `files` maps names to the sha256 of what was stored.
    """

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
    """Add the version within the caller's transaction, which also stores what made it: a block's commit, a new job."""
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
    """The version that a training or an import registered. Raises NotFound."""
    with session.begin():
        version = session.scalar(
            select(ModelVersion).where(ModelVersion.workspace_id == job.workspace_id, ModelVersion.job_id == job.id)
        )
    if version is None:
        raise NotFound(f"job {job.id} registered no model version")
    return version


def of_image(session: Session, job: Job, image: JobImage) -> ModelVersion:
    """The version that an image is segmented with. A registered version never changes, so its id is a snapshot."""
    version_id = UUID(choose_model(job.spec, image.entry)["model"]["version_id"])
    query = select(ModelVersion).where(ModelVersion.workspace_id == job.workspace_id, ModelVersion.id == version_id)
    with session.begin():
        return session.scalars(query).one()


def mark(session: Session, job: Job, state: ModelState, serving: Json | None = None) -> None:
    """Say how the loading of the job's version ended, within the caller's transaction.

    A version that is ready takes the alias that its import asked for. `serving` is what was measured meanwhile, see
    `shared.schemas.models.Serving`.
    """
    version = session.scalar(
        select(ModelVersion).where(ModelVersion.workspace_id == job.workspace_id, ModelVersion.job_id == job.id)
    )
    if version is None:
        return
    version.state = state
    if serving is not None:
        version.serving = serving
    alias = job.spec.get("alias")
    if state is ModelState.READY and alias is not None:
        set_alias(session, version, alias)


def promote(session: Session, workspace_id: UUID, name: str, alias: str, number: int) -> Model:
    """Let `alias` stand for version `number` of the model. The same again changes nothing.

    Raises NotFound for an unknown model or version, Conflict if the version is not ready.
    """
    with session.begin():
        model = _lock(session, workspace_id, name)
        query = select(ModelVersion).where(ModelVersion.model_id == model.id, ModelVersion.number == number)
        version = session.scalar(query.execution_options(populate_existing=True))
        if version is None:
            raise NotFound(f"model {name!r} has no version {number} in your workspace")
        if version.state is not ModelState.READY:
            raise Conflict(f"version {number} of model {name!r} is {version.state.value}, not ready to be used")
        set_alias(session, version, alias)
    return get(session, workspace_id, name)


def rollback(session: Session, workspace_id: UUID, name: str, alias: str) -> Model:
    """Take the last move of `alias` back; again, the one before that, and so on.

    Raises NotFound for an unknown model or alias, Conflict if there is no version before.
    """
    with session.begin():
        model = _lock(session, workspace_id, name)
        row = _find_alias(session, model.id, alias)
        if row is None:
            raise NotFound(f"model {name!r} has no alias {alias!r} in your workspace")
        move = session.scalar(
            select(ModelAliasMove)
            .where(ModelAliasMove.model_id == model.id, ModelAliasMove.alias == alias)
            .where(ModelAliasMove.undone_at.is_(None))
            .order_by(ModelAliasMove.number.desc())
            .limit(1)
        )
        if move is None or move.from_version_id is None:
            raise Conflict(f"{name}@{alias} stands for the first version it was given; there is none to go back to")
        row.version_id, move.undone_at = move.from_version_id, func.now()
    return get(session, workspace_id, name)


def remove_alias(session: Session, workspace_id: UUID, name: str, alias: str) -> Model:
    """Forget `alias`; what its moves were is kept. Twice is as once. Raises NotFound for an unknown model."""
    with session.begin():
        model = _lock(session, workspace_id, name)
        row = _find_alias(session, model.id, alias)
        if row is not None:
            _note_move(session, row, before=row.version_id, after=None)
            session.delete(row)
    return get(session, workspace_id, name)


def set_alias(session: Session, version: ModelVersion, alias: str) -> None:
    """Let `alias` of the version's model stand for it, within the caller's transaction."""
    session.execute(select(Model.id).where(Model.id == version.model_id).with_for_update())
    row = _find_alias(session, version.model_id, alias)
    if row is None:
        row = ModelAlias(
            workspace_id=version.workspace_id, model_id=version.model_id, name=alias, version_id=version.id
        )
        session.add(row)
        _note_move(session, row, before=None, after=version.id)
    elif row.version_id != version.id:
        _note_move(session, row, before=row.version_id, after=version.id)
        row.version_id = version.id


def alias_in(reference: str) -> str | None:
    """`production` of `nuclei@production`; None where the reference names no version, or one by its number."""
    which = reference.partition("@")[2]
    return which if which and not which.isdecimal() else None


def resolve(session: Session, workspace_id: UUID, reference: str) -> tuple[Model, ModelVersion]:
    """`name` → its newest ready version, `name@3` → version 3, `name@production` → the one of that alias.

    Within the caller's transaction. Raises NotFound, or Conflict if the version is there but not ready.
    """
    name, _, which = reference.partition("@")
    query = (
        select(Model, ModelVersion)
        .join(ModelVersion, ModelVersion.model_id == Model.id)
        .where(Model.workspace_id == workspace_id, Model.name == name)
    )
    if alias_in(reference):
        query = query.join(ModelAlias, ModelAlias.version_id == ModelVersion.id).where(ModelAlias.name == which)
    elif which:
        query = query.where(ModelVersion.number == int(which))
    else:
        query = query.where(ModelVersion.state == ModelState.READY)
    row = session.execute(query.order_by(ModelVersion.number.desc()).limit(1)).first()
    if row is None:
        raise NotFound(
            f"there is no {'' if which else 'ready '}model {reference!r} in your workspace; "
            f"ready are: {', '.join(_list_ready(session, workspace_id)) or 'none'}"
        )
    model, version = row
    if version.state is not ModelState.READY:
        raise Conflict(f"model {reference!r} is {version.state.value}, not ready to be used")
    return model, version


def _list_ready(session: Session, workspace_id: UUID, most: int = 20) -> list[str]:
    """References that would have worked: by alias, and by number."""
    aliases = (
        select(Model.name, ModelAlias.name)
        .join(ModelAlias, ModelAlias.model_id == Model.id)
        .where(Model.workspace_id == workspace_id)
        .order_by(Model.name, ModelAlias.name)
    )
    ready = (
        select(Model.name, ModelVersion.number)
        .join(ModelVersion, ModelVersion.model_id == Model.id)
        .where(Model.workspace_id == workspace_id, ModelVersion.state == ModelState.READY)
        .order_by(ModelVersion.created_at.desc())
    )
    rows = [*session.execute(aliases.limit(most)), *session.execute(ready.limit(most))]
    return [f"{name}@{which}" for name, which in rows][:most]


def get(session: Session, workspace_id: UUID, name: str) -> Model:
    """The model with its versions and aliases. Raises NotFound."""
    query = select(Model).where(Model.workspace_id == workspace_id, Model.name == name)
    with session.begin():
        model = session.scalar(query.options(*WHOLE).execution_options(populate_existing=True))
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
    query = select(Model).where(Model.workspace_id == workspace_id).options(*WHOLE)
    with session.begin():
        return pages.newest_first(session, query, row=Model, cursor=cursor, limit=limit)


def _lock(session: Session, workspace_id: UUID, name: str) -> Model:
    """The model, held: one at a time moves its aliases. Raises NotFound."""
    query = select(Model).where(Model.workspace_id == workspace_id, Model.name == name).with_for_update()
    model = session.scalar(query)
    if model is None:
        raise NotFound(f"there is no model {name!r} in your workspace")
    return model


def _find_alias(session: Session, model_id: UUID, alias: str) -> ModelAlias | None:
    query = select(ModelAlias).where(ModelAlias.model_id == model_id, ModelAlias.name == alias)
    return session.scalar(query.execution_options(populate_existing=True))  # as it is since the model is held


def _note_move(session: Session, row: ModelAlias, *, before: UUID | None, after: UUID | None) -> None:
    of_alias = (ModelAliasMove.model_id == row.model_id, ModelAliasMove.alias == row.name)
    last = session.scalar(select(func.max(ModelAliasMove.number)).where(*of_alias))
    session.add(
        ModelAliasMove(
            workspace_id=row.workspace_id,
            model_id=row.model_id,
            alias=row.name,
            number=(last or 0) + 1,
            from_version_id=before,
            to_version_id=after,
        )
    )
