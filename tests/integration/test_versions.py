"""Versions of a dataset, as a client of the API sees them."""

import hashlib
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain import workspaces
from shared.tables import DatasetImage, Workspace
from shared.tables.datasets import ManifestState

BODIES = {"images/a.png": b"first", "images/b.png": b"second", "masks/a.png": b"mask"}


@pytest.fixture
def dataset(client: TestClient) -> str:
    return f"/v1/datasets/{client.post('/v1/datasets', json={'name': 'cohort'}).json()['id']}"


def seal(client: TestClient, dataset: str, bodies: dict[str, bytes], **more: Any) -> dict[str, Any]:
    files = [
        {"name": name, "sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)} for name, body in bodies.items()
    ]
    targets = client.post(f"{dataset}/uploads", json={"files": files}).json()["files"]
    for target, body in zip(targets, bodies.values(), strict=True):
        if target["url"]:
            httpx.put(target["url"], content=body).raise_for_status()
    answer = client.post(f"{dataset}/versions", json={"files": files, **more})
    assert answer.status_code == 201, answer.text
    sealed: dict[str, Any] = answer.json()
    return sealed


def test_a_sealed_version_says_where_it_stands_and_what_its_names_suggest(client: TestClient, dataset: str) -> None:
    version = seal(client, dataset, BODIES)
    assert (version["state"], version["parent"], version["layout"]) == ("sealed", None, None)
    assert (version["files"], version["images"], version["masks"], version["accepted"]) == (3, 2, 1, 0)
    detected = version["detected"]
    assert (detected["layout"], detected["images"], detected["masked"]) == ("images_masks", 2, 1)
    assert detected["why"]


def test_versions_are_listed_from_the_newest_with_the_one_they_go_on_from(client: TestClient, dataset: str) -> None:
    for number in range(3):
        seal(client, dataset, {"a.png": b"%d" % number}, **({"parent": 1} if number == 2 else {}))
    first = client.get(f"{dataset}/versions", params={"limit": 2}).json()
    rest = client.get(f"{dataset}/versions", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    found = [(item["number"], item["parent"]) for item in first["items"] + rest["items"]]
    assert (found, rest["next_cursor"]) == ([(3, 1), (2, 1), (1, None)], None)


def test_the_bytes_of_each_file_can_be_fetched(client: TestClient, dataset: str) -> None:
    seal(client, dataset, BODIES)
    files = client.get(f"{dataset}/versions/1/files").json()["items"]
    assert {file["name"]: httpx.get(file["url"]).content for file in files} == BODIES


def test_versions_of_two_datasets_can_be_compared(client: TestClient, dataset: str) -> None:
    seal(client, dataset, BODIES)
    other = client.post("/v1/datasets", json={"name": "other"}).json()["id"]
    seal(client, f"/v1/datasets/{other}", {"images/a.png": b"first"})
    difference = client.get(f"{dataset}/versions/1/difference", params={"to": 1, "of": other}).json()
    assert difference["counts"] == {"added": 0, "removed": 2, "changed": 0, "same": 1}


def test_the_difference_of_two_versions_names_the_files(client: TestClient, dataset: str) -> None:
    seal(client, dataset, BODIES)
    seal(client, dataset, {"images/a.png": b"first", "images/b.png": b"changed", "images/c.png": b"new"})
    assert client.get(f"{dataset}/versions/1/difference", params={"to": 2}).json() == {
        "counts": {"added": 1, "removed": 1, "changed": 1, "same": 1},
        "added": ["images/c.png"],
        "removed": ["masks/a.png"],
        "changed": ["images/b.png"],
    }
    assert client.get(f"{dataset}/versions/1/difference", params={"to": 3}).status_code == 404


def test_files_are_listed_by_what_they_are_for(client: TestClient, dataset: str) -> None:
    seal(client, dataset, BODIES)
    masks = client.get(f"{dataset}/versions/1/files", params={"role": "mask"}).json()["items"]
    assert [item["name"] for item in masks] == ["masks/a.png"]
    assert client.get(f"{dataset}/versions/1/files", params={"role": "odd"}).status_code == 422


def test_the_manifest_is_listed_with_its_problems(client: TestClient, dataset: str, session: Session) -> None:
    version = seal(client, dataset, BODIES)
    problem = {"code": "mask_missing", "severity": "error", "text": "images/b.png: it has no mask; add masks/b.png"}
    with session.begin():
        owner = owner_of(session)
        for ordinal, (state, found) in enumerate(
            ((ManifestState.ACCEPTED, []), (ManifestState.REJECTED, [problem])),
        ):
            row = {"workspace_id": owner, "version_id": UUID(version["id"]), "ordinal": ordinal}
            session.add(DatasetImage(**row, name=f"{ordinal}.png", state=state, problems=found, types="types/1.tif"))
    images = client.get(f"{dataset}/versions/1/images", params={"state": "rejected"}).json()["items"]
    listed = [(image["name"], image["problems"], image["types"]) for image in images]
    assert listed == [("1.png", [problem], "types/1.tif")]
    described = client.get(f"{dataset}/versions/1").json()
    assert (described["accepted"], described["rejected"]) == (1, 1)


def test_no_workspace_sees_or_deletes_anothers_versions(client: TestClient, dataset: str, session: Session) -> None:
    seal(client, dataset, BODIES)
    mine = client.headers["Authorization"]
    other = workspaces.create(session, "other lab")
    client.headers["Authorization"] = f"Bearer {workspaces.issue_key(session, other, label='test')}"
    for path in ("versions", "versions/1/files", "versions/1/images", "versions/1/difference?to=1"):
        assert client.get(f"{dataset}/{path}").status_code == 404, path
    for path in ("", "/versions/1"):
        assert client.delete(f"{dataset}{path}").status_code == 404, path
    assert client.post(f"{dataset}/uploads/complete", json={"sha256": "0" * 64}).status_code == 404
    client.headers["Authorization"] = mine
    assert client.get(f"{dataset}/versions/1").status_code == 200


def owner_of(session: Session) -> UUID:
    return session.scalars(select(Workspace.id)).one()
