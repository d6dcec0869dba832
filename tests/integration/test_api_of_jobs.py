"""How jobs end, over the API, and how orders are repeated: the real app on the real servers."""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor, wait
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.api.routes import jobs as routes
from shared.database import Sessions
from shared.domain import jobs
from shared.tables import DatasetVersion, Job, Workspace
from shared.tables.jobs import JobState
from tests.integration.test_api import assert_problem, order, owner_of
from tests.rows import add_model, add_version


@pytest.fixture
def version(session: Session, workspace: Workspace) -> DatasetVersion:
    return add_version(session, workspace, ["a.png", "b.png"])


def test_a_job_is_cancelled_once_and_for_all(client: TestClient, session: Session, version: DatasetVersion) -> None:
    add_model(session, owner_of(session, version))
    job = client.post("/v1/jobs", json=order(version)).json()
    assert client.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/v1/jobs/{job['id']}/cancel").status_code == 202
    detail = client.get(f"/v1/jobs/{job['id']}").json()
    assert (detail["state"], detail["error"]) == ("cancelled", None)
    assert client.get("/v1/jobs", params={"state": "cancelled"}).json()["items"][0]["id"] == job["id"]


def test_an_order_of_before_an_upgrade_is_the_same_one_after_it(
    client: TestClient, session: Session, version: DatasetVersion, workspace: Workspace
) -> None:
    """The digest is that of the order as it was before fields were added to it."""
    add_model(session, workspace)
    key = {"Idempotency-Key": "nightly-7"}
    job = client.post("/v1/jobs", json=order(version), headers=key).json()
    fields = {**order(version), "dataset": None, "threshold": None}
    with session.begin():
        row = session.get_one(Job, UUID(job["id"]))
        assert row.order_digest == hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    assert client.post("/v1/jobs", json=order(version, empty_tiles="auto"), headers=key).json()["id"] == job["id"]
    other = client.post("/v1/jobs", json=order(version, empty_tiles="predict"), headers=key)
    assert_problem(other, 409, "another order")


def test_who_waits_for_a_job_is_answered_at_its_end(
    client: TestClient,
    session: Session,
    version: DatasetVersion,
    workspace: Workspace,
    sessions: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "LOOK_SECONDS", 60.0)  # so that only being told can wake it
    add_model(session, workspace)
    path = f"/v1/jobs/{client.post('/v1/jobs', json=order(version)).json()['id']}"
    assert client.get(path, params={"wait": 0.3}).json()["state"] == "queued"
    with ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        answer = pool.submit(client.get, path, params={"wait": 25})
        assert not wait([answer], timeout=0.5).done, "it waits"
        with sessions() as user:
            jobs.cancel(user, workspace.id, UUID(path.rsplit("/", 1)[1]))
        assert answer.result().json()["state"] == "cancelled"
        assert time.monotonic() - begun < 20
    assert client.get(path, params={"wait": 31}).status_code == 422
    assert client.get(f"/v1/jobs/{uuid4()}", params={"wait": 25}).status_code == 404


def test_a_finished_job_cannot_be_cancelled(client: TestClient, session: Session, version: DatasetVersion) -> None:
    add_model(session, owner_of(session, version))
    job = client.post("/v1/jobs", json=order(version)).json()
    with session.begin():
        row = session.scalars(select(Job)).one()
        row.state, row.finished_at = JobState.SUCCEEDED, row.created_at
    assert_problem(client.post(f"/v1/jobs/{job['id']}/cancel"), 409, "succeeded")
