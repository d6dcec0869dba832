"""Whether the process lives, and whether it can work."""

from collections.abc import Callable

from fastapi import APIRouter, Response
from pydantic import BaseModel

from services.api.dependencies import Ports, PortsDep
from shared import database

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"


class Readiness(BaseModel):
    """Per dependency: "ok", or why it is down."""

    ready: bool
    dependencies: dict[str, str]


@router.get("/healthz")
def get_health() -> Health:
    """Lives. Asks no other server, so that a restart is never the answer to somebody else's fault."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness}})
def get_readiness(ports: PortsDep, response: Response) -> Readiness:
    """Can work. 503 names the dependency that is down."""
    dependencies = {name: _ask(ping) for name, ping in _pings(ports).items()}
    ready = all(answer == "ok" for answer in dependencies.values())
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, dependencies=dependencies)


def _pings(ports: Ports) -> dict[str, Callable[[], None]]:
    return {
        "database": lambda: database.ping(ports.engine),
        "broker": ports.queue.ping,
        "storage": ports.storage.ping,
    }


def _ask(ping: Callable[[], None]) -> str:
    try:
        ping()
    except Exception as error:  # whatever it is, it is the answer to the question asked
        return f"down: {type(error).__name__}"
    return "ok"
