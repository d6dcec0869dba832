"""The API on the real servers, and a client of it."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from services.api.app import create_app
from services.api.settings import ApiSettings
from shared.domain import workspaces
from shared.settings import Settings
from shared.tables import Workspace


@pytest.fixture
def app(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(ApiSettings.model_validate(settings.model_dump()))) as client:
        yield client


@pytest.fixture
def client(app: TestClient, session: Session, workspace: Workspace) -> TestClient:
    """Carries a key of `workspace`."""
    app.headers["Authorization"] = f"Bearer {workspaces.issue_key(session, workspace, label='test')}"
    return app
