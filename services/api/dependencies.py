"""What routes ask for: the caller, a session, the ports."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from services.api.endings import Endings
from shared.database import Sessions
from shared.domain import workspaces
from shared.domain.dispatch import Dispatcher
from shared.errors import Unauthenticated
from shared.queue import Queue
from shared.storage import Storage

_bearer = HTTPBearer(auto_error=False, description="an API key: `Authorization: Bearer ovt_…`")


@dataclass(frozen=True)
class Ports:
    """Made once per process, shared by its threads."""

    engine: Engine
    sessions: Sessions
    storage: Storage
    queue: Queue
    dispatcher: Dispatcher
    endings: Endings


@dataclass(frozen=True)
class Caller:
    """Who asks: the workspace that the key opens."""

    workspace: UUID


def _ports(request: Request) -> Ports:
    ports: Ports = request.app.state.ports
    return ports


PortsDep = Annotated[Ports, Depends(_ports)]


def _session(ports: PortsDep) -> Iterator[Session]:
    with ports.sessions() as session:  # never commits: the domain does
        yield session


SessionDep = Annotated[Session, Depends(_session)]


def _caller(
    session: SessionDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    if credentials is None:
        raise Unauthenticated("send your API key: `Authorization: Bearer ovt_…`")
    return Caller(workspaces.authenticate(session, credentials.credentials))


CallerDep = Annotated[Caller, Depends(_caller)]


def _storage(ports: PortsDep) -> Storage:
    return ports.storage


def _dispatcher(ports: PortsDep) -> Dispatcher:
    return ports.dispatcher


def _endings(ports: PortsDep) -> Endings:
    return ports.endings


EndingsDep = Annotated[Endings, Depends(_endings)]
StorageDep = Annotated[Storage, Depends(_storage)]
DispatcherDep = Annotated[Dispatcher, Depends(_dispatcher)]
