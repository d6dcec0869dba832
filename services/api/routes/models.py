"""/v1/models"""

from fastapi import APIRouter

from services.api.dependencies import CallerDep, SessionDep
from services.api.routes.parameters import DEFAULT_LIMIT, CursorQuery, LimitQuery, NumberPath
from shared.domain import models
from shared.schemas.datasets import Name
from shared.schemas.models import AliasIn, ModelOut, ModelsPage, ModelVersionOut
from shared.schemas.references import Alias
from shared.tables import Model, ModelVersion

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_models(
    caller: CallerDep, session: SessionDep, cursor: CursorQuery = None, limit: LimitQuery = DEFAULT_LIMIT
) -> ModelsPage:
    """The workspace's models with their versions and aliases, the newest first."""
    rows, next_cursor = models.list_page(session, caller.workspace, cursor=cursor, limit=limit)
    return ModelsPage(items=[ModelOut.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.get("/{name}", response_model=ModelOut)
def get_model(name: Name, caller: CallerDep, session: SessionDep) -> Model:
    """One model with its versions and aliases."""
    return models.get(session, caller.workspace, name)


@router.get("/{name}/versions/{number}", response_model=ModelVersionOut)
def get_version(name: Name, number: NumberPath, caller: CallerDep, session: SessionDep) -> ModelVersion:
    """One version: its tiling contract, its card, whether it is ready."""
    return models.get_version(session, caller.workspace, name, number)


@router.put("/{name}/aliases/{alias}", response_model=ModelOut)
def promote(name: Name, alias: Alias, order: AliasIn, caller: CallerDep, session: SessionDep) -> Model:
    """Let the alias stand for a ready version; it is made if it is new. Jobs that are ordered already keep theirs."""
    return models.promote(session, caller.workspace, name, alias, order.version)


@router.post("/{name}/aliases/{alias}:rollback", response_model=ModelOut)
def roll_back(name: Name, alias: Alias, caller: CallerDep, session: SessionDep) -> Model:
    """Let the alias stand for the version it stood for before its last move; again, for the one before that."""
    return models.rollback(session, caller.workspace, name, alias)


@router.delete("/{name}/aliases/{alias}", response_model=ModelOut)
def remove_alias(name: Name, alias: Alias, caller: CallerDep, session: SessionDep) -> Model:
    """Forget the alias; the versions stay. Twice is as once."""
    return models.remove_alias(session, caller.workspace, name, alias)
