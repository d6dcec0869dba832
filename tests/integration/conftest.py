"""The API on the real servers, a client of it, and a small version for jobs about datasets."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from services.api.app import create_app
from services.api.settings import ApiSettings
from shared.domain import workspaces
from shared.domain.dispatch import Dispatcher
from shared.settings import Settings
from shared.tables import DatasetVersion, Workspace
from tests.dataset_jobs import order_ingest, run_ingest
from tests.rows import add_version, make_dispatcher


@pytest.fixture
def app(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(ApiSettings.model_validate(settings.model_dump()))) as client:
        yield client


@pytest.fixture
def client(app: TestClient, session: Session, workspace: Workspace) -> TestClient:
    """Carries a key of `workspace`."""
    app.headers["Authorization"] = f"Bearer {workspaces.issue_key(session, workspace, label='test')}"
    return app


@pytest.fixture
def dispatcher() -> Dispatcher:
    return make_dispatcher()


@pytest.fixture
def version(session: Session, workspace: Workspace) -> DatasetVersion:
    """Sealed, of two small images."""
    return add_version(session, workspace, ["small-a.png", "small-b.png"])


@pytest.fixture
def ready(session: Session, dispatcher: Dispatcher, version: DatasetVersion) -> DatasetVersion:
    """`version`, ingested."""
    run_ingest(session, dispatcher, order_ingest(session, dispatcher, version), ["small-a.png", "small-b.png"])
    return version
