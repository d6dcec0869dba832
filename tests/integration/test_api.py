"""The API as a client sees it: the real app on the real servers."""

import hashlib
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.api.app import create_app
from services.api.settings import ApiSettings
from shared.domain import workspaces
from shared.settings import Settings
from shared.tables import ApiKey, DatasetVersion, Workspace
from shared.tables.models import ModelState
from tests.rows import add_model, add_version


@pytest.fixture
def version(session: Session, workspace: Workspace) -> DatasetVersion:
    return add_version(session, workspace, ["a.png", "b.png"])


def order(version: DatasetVersion, **changes: Any) -> dict[str, Any]:
    return {"kind": "segment", "dataset_version": str(version.id), "model": "nuclei", **changes}


def file(body: bytes, name: str = "a.png", **changes: Any) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body), **changes}


def assert_problem(answer: httpx.Response, status: int, detail: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert detail in problem["detail"]
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("key", [None, "Bearer ovt_wrong", "Bearer ", "Basic abc"])
def test_without_a_valid_key_nothing_is_answered(app: TestClient, key: str | None) -> None:
    for path in ("datasets", "models", "recipes", "jobs"):
        assert_problem(app.get(f"/v1/{path}", headers={"Authorization": key} if key else {}), 401, "API key")


def test_a_revoked_key_opens_nothing(client: TestClient, session: Session, workspace: Workspace) -> None:
    assert client.get("/v1/jobs").status_code == 200
    assert workspaces.revoke_key(session, workspace, label="test") == 1
    assert_problem(client.get("/v1/jobs"), 401, "revoked")


def test_keys_are_kept_as_hashes_only(client: TestClient, session: Session) -> None:
    key = client.headers["Authorization"].removeprefix("Bearer ")
    with session.begin():
        row = session.scalars(select(ApiKey)).one()
    assert key not in [str(value) for value in vars(row).values()]
    assert row.digest == hashlib.sha256(key.encode()).hexdigest()


def test_a_file_goes_up_by_its_url_and_becomes_a_version(client: TestClient) -> None:
    dataset = client.post("/v1/datasets", json={"name": "cohort"}).json()
    files = {"files": [file(b"first", "images/a.png"), file(b"second", "masks/a.png")]}
    uploads = client.post(f"/v1/datasets/{dataset['id']}/uploads", json=files).json()["files"]
    for upload, body in zip(uploads, [b"first", b"second"], strict=True):
        httpx.put(upload["url"], content=body).raise_for_status()
    sealed = client.post(f"/v1/datasets/{dataset['id']}/versions", json=files)
    assert sealed.status_code == 201
    assert (sealed.json()["number"], sealed.json()["images"], sealed.json()["masks"]) == (1, 1, 1)
    assert client.get(f"/v1/datasets/{dataset['id']}/versions/1").json() == sealed.json()


def test_the_same_upload_twice_is_stored_once_and_is_one_version(client: TestClient) -> None:
    dataset = client.post("/v1/datasets", json={"name": "cohort"}).json()
    files = {"files": [file(b"first")]}
    upload, version = f"/v1/datasets/{dataset['id']}/uploads", f"/v1/datasets/{dataset['id']}/versions"
    httpx.put(client.post(upload, json=files).json()["files"][0]["url"], content=b"first").raise_for_status()
    first = client.post(version, json=files)
    assert client.post(upload, json=files).json()["files"][0]["url"] is None
    second = client.post(version, json=files)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()


def test_a_version_of_files_that_are_not_stored_is_refused_by_name(client: TestClient) -> None:
    dataset = client.post("/v1/datasets", json={"name": "cohort"}).json()
    answer = client.post(f"/v1/datasets/{dataset['id']}/versions", json={"files": [file(b"first", "lost.png")]})
    assert_problem(answer, 422, "lost.png (not uploaded)")


def test_a_file_that_was_cut_on_its_way_is_refused_by_name(client: TestClient) -> None:
    dataset = client.post("/v1/datasets", json={"name": "cohort"}).json()
    files = {"files": [file(b"first")]}
    upload = client.post(f"/v1/datasets/{dataset['id']}/uploads", json=files).json()["files"][0]
    httpx.put(upload["url"], content=b"fir").raise_for_status()
    answer = client.post(f"/v1/datasets/{dataset['id']}/versions", json=files)
    assert_problem(answer, 422, "a.png (3 bytes stored, 5 announced)")


def test_two_files_of_one_name_are_refused(client: TestClient) -> None:
    dataset = client.post("/v1/datasets", json={"name": "cohort"}).json()
    files = {"files": [file(b"first"), file(b"second")]}
    assert_problem(client.post(f"/v1/datasets/{dataset['id']}/versions", json=files), 422, "a.png")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a//b", "a\\b", "", "a\x00b", "."])
def test_names_that_are_no_plain_path_are_refused(client: TestClient, name: str) -> None:
    dataset = client.post("/v1/datasets", json={"name": uuid4().hex}).json()
    answer = client.post(f"/v1/datasets/{dataset['id']}/uploads", json={"files": [file(b"", name)]})
    assert_problem(answer, 422, "files.0.name")


def test_a_dataset_name_is_taken_once(client: TestClient) -> None:
    assert client.post("/v1/datasets", json={"name": "cohort"}).status_code == 201
    assert_problem(client.post("/v1/datasets", json={"name": "cohort"}), 409, "cohort")
    assert [item["name"] for item in client.get("/v1/datasets", params={"name": "cohort"}).json()["items"]] == [
        "cohort"
    ]


def test_an_order_sent_twice_is_one_job(client: TestClient, session: Session, version: DatasetVersion) -> None:
    add_model(session, owner_of(session, version))
    headers = {"Idempotency-Key": "once"}
    first = client.post("/v1/jobs", json=order(version), headers=headers)
    second = client.post("/v1/jobs", json=order(version), headers=headers)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert_problem(client.post("/v1/jobs", json=order(version, threshold=0.6), headers=headers), 409, "once")
    assert len(client.get("/v1/jobs").json()["items"]) == 1


def test_a_new_job_says_where_it_stands(client: TestClient, session: Session, version: DatasetVersion) -> None:
    add_model(session, owner_of(session, version))
    job = client.post("/v1/jobs", json=order(version)).json()
    detail = client.get(f"/v1/jobs/{job['id']}").json()
    assert detail["state"] == "queued"
    assert detail["progress"] == {
        "blocks": 2, "done": 0, "failed": 0, "images": 2, "images_done": 0, "images_failed": 0,
    }  # fmt: skip
    assert [stage["stage"] for stage in detail["stages"]] == ["plan"]
    assert detail["spec"]["model"]["version"] == 1
    images = client.get(f"/v1/jobs/{job['id']}/images").json()["items"]
    assert [(image["name"], image["state"]) for image in images] == [("a.png", "pending"), ("b.png", "pending")]
    assert client.get(f"/v1/jobs/{job['id']}/artifacts").json() == {"items": [], "next_cursor": None}


def test_an_unknown_model_is_refused_by_name(client: TestClient, version: DatasetVersion) -> None:
    assert_problem(client.post("/v1/jobs", json=order(version, model="nobody@7")), 404, "nobody@7")


def test_a_model_that_is_not_ready_is_refused(client: TestClient, session: Session, version: DatasetVersion) -> None:
    add_model(session, owner_of(session, version), state=ModelState.FAILED)
    assert_problem(client.post("/v1/jobs", json=order(version, model="nuclei@1")), 409, "failed")
    assert_problem(client.post("/v1/jobs", json=order(version)), 404, "no ready model")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "fly"},
        {"kind": "segment"},
        {"kind": "segment", "dataset_version": "x", "model": "m"},
        {"kind": "segment", "dataset_version": str(uuid4()), "model": "m", "threshold": 2},
        {"kind": "segment", "dataset_version": str(uuid4()), "model": "a@b@c"},
        {"kind": "segment", "model": "m"},
        {"kind": "segment", "dataset": "a", "dataset_version": str(uuid4()), "model": "m"},
        {"kind": "segment", "dataset": "a@production", "model": "m"},
        {"kind": "segment", "dataset_version": str(uuid4()), "model": "m@99999999999999"},
        {"kind": "segment", "dataset_version": str(uuid4()), "model": "m", "typo": 1},
        {"kind": "train", "dataset_version": str(uuid4()), "model": "m", "epochs": 0},
        {"kind": "train", "dataset_version": str(uuid4()), "model": "m", "network": {"widths": [0, 1]}},
        [],
        "text",
        None,
    ],
)
def test_orders_that_do_not_fit_are_refused(client: TestClient, body: Any) -> None:
    assert_problem(client.post("/v1/jobs", json=body), 422, "")


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b'{"kind": NaN}', b"[" * 5000, b""])
def test_a_body_that_is_no_json_is_refused(client: TestClient, text: bytes) -> None:
    answer = client.post("/v1/jobs", content=text, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_that_no_order_needs_is_turned_away_unread(client: TestClient) -> None:
    assert_problem(client.post("/v1/jobs", content=b" " * 21_000_000), 413, "bytes")
    assert_problem(client.post("/v1/jobs", content=iter([b"{", b"}"])), 411, "Content-Length")


@pytest.mark.parametrize("name", ["a%00b", "%F0%9F%94%AC", "a b", "x" * 300, "'; drop table jobs; --"])
def test_odd_names_of_models_are_no_server_error(client: TestClient, name: str) -> None:
    assert client.get(f"/v1/models/{name}").status_code in (404, 422)
    assert client.get(f"/v1/models/{name}/versions/{10**30}").status_code in (404, 422)


def test_odd_numbers_are_no_server_error(client: TestClient) -> None:
    assert client.get(f"/v1/datasets/{uuid4()}/versions/{10**30}").status_code in (404, 422)
    assert client.get(f"/v1/jobs/{uuid4()}/images", params={"cursor": "9" * 190}).status_code in (404, 422)


def test_training_needs_masks(client: TestClient, version: DatasetVersion) -> None:
    body = {"kind": "train", "dataset_version": str(version.id), "model": "mine"}
    assert_problem(client.post("/v1/jobs", json=body), 422, "masks")


def test_what_is_not_there_is_not_found(client: TestClient) -> None:
    for path in ("datasets/{}", "datasets/{}/versions/1", "jobs/{}", "jobs/{}/images", "jobs/{}/artifacts"):
        assert_problem(client.get("/v1/" + path.format(uuid4())), 404, "in your workspace")
    assert_problem(client.get("/v1/models/nobody"), 404, "nobody")
    assert_problem(client.get("/v1/nothing"), 404, "Not Found")
    assert_problem(client.delete("/v1/jobs"), 405, "Method Not Allowed")


def test_no_workspace_sees_anothers_rows(client: TestClient, session: Session, version: DatasetVersion) -> None:
    add_model(session, owner_of(session, version))
    job = client.post("/v1/jobs", json=order(version)).json()
    dataset = str(version.dataset_id)
    other = workspaces.create(session, "other lab")
    client.headers["Authorization"] = f"Bearer {workspaces.issue_key(session, other, label='test')}"
    for path in ("datasets", "models", "jobs"):
        assert client.get(f"/v1/{path}").json()["items"] == []
    for path in (f"datasets/{dataset}", f"datasets/{dataset}/versions/1", "models/nuclei", "models/nuclei/versions/1",
                 f"jobs/{job['id']}", f"jobs/{job['id']}/images", f"jobs/{job['id']}/artifacts"):  # fmt: skip
        assert client.get(f"/v1/{path}").status_code == 404, path
    assert client.post(f"/v1/jobs/{job['id']}/cancel").status_code == 404
    assert client.post(f"/v1/datasets/{dataset}/uploads", json={"files": [file(b"")]}).status_code == 404
    assert client.post(f"/v1/datasets/{dataset}/versions", json={"files": [file(b"")]}).status_code == 404
    assert_problem(client.post("/v1/jobs", json=order(version)), 404, "dataset version")
    own = add_version(session, other, ["a.png"])
    assert_problem(client.post("/v1/jobs", json=order(own)), 404, "nuclei")


def test_the_same_key_in_two_workspaces_is_two_jobs(
    client: TestClient, session: Session, version: DatasetVersion
) -> None:
    add_model(session, owner_of(session, version))
    headers = {"Idempotency-Key": "once"}
    first = client.post("/v1/jobs", json=order(version), headers=headers).json()
    other = workspaces.create(session, "other lab")
    add_model(session, other)
    client.headers["Authorization"] = f"Bearer {workspaces.issue_key(session, other, label='test')}"
    second = client.post("/v1/jobs", json=order(add_version(session, other, ["a.png"])), headers=headers).json()
    assert first["id"] != second["id"]


def test_lists_come_in_pages_without_gap_or_double(
    client: TestClient, session: Session, version: DatasetVersion
) -> None:
    add_model(session, owner_of(session, version))
    made = [client.post("/v1/jobs", json=order(version)).json()["id"] for _ in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        page = client.get("/v1/jobs", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]


@pytest.mark.parametrize("cursor", ["x", "%%%", "AAAA", "MjAyNi0wMS0wMXx4", "é"])
def test_a_cursor_that_is_not_ours_is_refused(client: TestClient, cursor: str) -> None:
    assert_problem(client.get("/v1/jobs", params={"cursor": cursor}), 422, "cursor")


def test_orders_are_taken_while_the_broker_is_away(settings: Settings, session: Session, workspace: Workspace) -> None:
    add_model(session, workspace)
    away = {**settings.model_dump(), "broker_url": "redis://127.0.0.1:1/0"}
    key = workspaces.issue_key(session, workspace, label="test")
    with TestClient(create_app(ApiSettings.model_validate(away)), headers={"Authorization": f"Bearer {key}"}) as client:
        body = order(add_version(session, workspace, ["a.png"]))
        assert client.post("/v1/jobs", json=body).status_code == 202
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["dependencies"]["broker"].startswith("down")
        assert ready.json()["dependencies"]["database"] == "ok"


def test_a_database_that_is_away_is_said_to_be(settings: Settings) -> None:
    away = {**settings.model_dump(), "database_url": "postgresql+psycopg://nobody:x@127.0.0.1:1/none"}
    with TestClient(create_app(ApiSettings.model_validate(away))) as client:
        answer = client.get("/v1/jobs", headers={"Authorization": "Bearer x"})
        assert_problem(answer, 503, "database")
        assert answer.headers["retry-after"]
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").json()["dependencies"]["database"].startswith("down")


def test_a_platform_that_can_work_says_so(app: TestClient) -> None:
    answer = app.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "dependencies": {"database": "ok", "broker": "ok", "storage": "ok"}}


def test_the_documentation_describes_every_answer(app: TestClient) -> None:
    paths = app.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        for operation in operations.values():
            assert operation.get("description"), path
            if path.startswith("/v1/"):
                assert {"401", "404", "409", "422", "503"} <= set(operation["responses"]), path


def owner_of(session: Session, version: DatasetVersion) -> Workspace:
    with session.begin():
        return session.get_one(Workspace, version.workspace_id)
