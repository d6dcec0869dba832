"""/v1/models"""

from fastapi import APIRouter

from services.api.dependencies import CallerDep, SessionDep
from services.api.routes.parameters import DEFAULT_LIMIT, CursorQuery, LimitQuery, NumberPath
from shared.domain import models
from shared.schemas.datasets import Name
from shared.schemas.models import ModelOut, ModelsPage, ModelVersionOut
from shared.tables import Model, ModelVersion

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_models(
    caller: CallerDep, session: SessionDep, cursor: CursorQuery = None, limit: LimitQuery = DEFAULT_LIMIT
) -> ModelsPage:
    """The workspace's models with their versions, the newest first."""
    rows, next_cursor = models.list_page(session, caller.workspace, cursor=cursor, limit=limit)
    return ModelsPage(items=[ModelOut.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.get("/{name}", response_model=ModelOut)
def get_model(name: Name, caller: CallerDep, session: SessionDep) -> Model:
    """One model with its versions."""
    return models.get(session, caller.workspace, name)


@router.get("/{name}/versions/{number}", response_model=ModelVersionOut)
def get_version(name: Name, number: NumberPath, caller: CallerDep, session: SessionDep) -> ModelVersion:
    """One version: its tiling contract, its card, whether it is ready."""
    return models.get_version(session, caller.workspace, name, number)
