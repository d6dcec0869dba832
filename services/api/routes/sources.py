"""/v1/sources"""

from fastapi import APIRouter

from services.api.dependencies import CallerDep, SessionDep
from shared.domain import sources
from shared.schemas.datasets import SourceOut, SourcesOut

router = APIRouter(prefix="/v1/sources", tags=["datasets"])


@router.get("")
def list_sources(caller: CallerDep, session: SessionDep) -> SourcesOut:
    """The places in the lab's own buckets whose files may be registered where they lie. An administrator adds them."""
    rows = sources.list_all(session, caller.workspace)
    return SourcesOut(items=[SourceOut.model_validate(row) for row in rows])
