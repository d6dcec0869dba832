"""Files that are registered where they lie, in a bucket of the lab's own."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.api import admin
from shared.domain import collection, sources
from shared.errors import Conflict, Invalid, NotFound
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import DatasetFile, StoredObject, Workspace


class Bucket:
    """A bucket of the lab's own, on the same server."""

    def __init__(self, settings: Settings) -> None:
        self.name = f"lab-{uuid4().hex}"
        self._client = boto3.client(
            "s3",
            endpoint_url=settings.s3_endpoint,
            aws_access_key_id=settings.s3_key,
            aws_secret_access_key=settings.s3_secret.get_secret_value(),
            region_name=settings.s3_region,
        )
        self._client.create_bucket(Bucket=self.name)

    def put(self, files: Mapping[str, bytes]) -> None:
        for key, body in files.items():
            self._client.put_object(Bucket=self.name, Key=key, Body=body)

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=key)

    def keys(self) -> list[str]:
        return [found["Key"] for found in self._client.list_objects_v2(Bucket=self.name).get("Contents", [])]


@pytest.fixture
def scanner(session: Session, workspace: Workspace, settings: Settings) -> Bucket:
    """A bucket whose folder `scans` the workspace may register from as `scanner`."""
    bucket = Bucket(settings)
    bucket.put({"scans/cohort-7/images/a.png": b"cells", "scans/cohort-7/masks/a.png": b"mask"})
    bucket.put({"scans/cohort-7/.hidden": b"", "scans/cohort-70/images/b.png": b"others", "secret/c.png": b"secret"})
    sources.add(session, workspace.id, "scanner", f"s3://{bucket.name}/scans", own_bucket="overtile")
    return bucket


@pytest.fixture
def versions(client: TestClient) -> str:
    """The path of a dataset's versions."""
    return f"/v1/datasets/{client.post('/v1/datasets', json={'name': 'cohort'}).json()['id']}/versions"


def register(client: TestClient, versions: str, path: str, *, name: str = "scanner") -> httpx.Response:
    answer: httpx.Response = client.post(versions, json={"source": {"name": name, "path": path}})
    return answer


@pytest.mark.usefixtures("scanner")
def test_a_folder_becomes_a_version_of_its_files_and_nothing_beside_it(client: TestClient, versions: str) -> None:
    version = register(client, versions, "cohort-7")
    assert version.status_code == 201, version.text
    found = version.json()
    assert (found["images"], found["masks"], found["detected"]["layout"]) == (1, 1, "images_masks")
    files = client.get(f"{versions}/1/files").json()["items"]
    assert [tuple(file[name] for name in ("name", "role", "sha256", "bytes")) for file in files] == [
        ("images/a.png", "image", None, 5),
        ("masks/a.png", "mask", None, 4),
    ]


def test_registering_copies_nothing_and_remembers_where_the_bytes_are(
    client: TestClient, versions: str, session: Session, scanner: Bucket
) -> None:
    register(client, versions, "cohort-7/images/")
    with session.begin():
        row = session.scalars(select(StoredObject)).one()
    assert (row.bucket, row.key, row.sha256) == (scanner.name, "scans/cohort-7/images/a.png", None)
    assert row.etag


def test_the_same_folder_again_is_the_same_version_and_a_changed_one_is_another(
    client: TestClient, versions: str, session: Session, scanner: Bucket
) -> None:
    first, again = register(client, versions, "cohort-7"), register(client, versions, "cohort-7")
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    scanner.put({"scans/cohort-7/images/a.png": b"other cells"})
    changed = register(client, versions, "cohort-7")
    assert (changed.status_code, changed.json()["parent"]) == (201, 1)
    with session.begin():
        sizes = session.scalars(select(DatasetFile.bytes).where(DatasetFile.name == "images/a.png")).all()
    assert sorted(sizes) == [5, 11], "the first version still says what it was made of"


@pytest.mark.usefixtures("scanner")
@pytest.mark.parametrize("path", ["../secret", "cohort-7/../../secret", "a//b", "a\\b", "./a", "a\0b", "x" * 600])
def test_a_path_that_may_lead_out_of_the_source_is_refused(client: TestClient, versions: str, path: str) -> None:
    assert register(client, versions, path).status_code == 422


@pytest.mark.usefixtures("scanner")
def test_the_beginning_of_a_folders_name_is_not_the_folder(client: TestClient, versions: str) -> None:
    answer = register(client, versions, "cohort")
    assert answer.status_code == 422
    assert "there are no files below" in answer.json()["detail"]


@pytest.mark.usefixtures("scanner")
def test_a_source_that_nobody_allowed_is_not_found(client: TestClient, versions: str) -> None:
    assert register(client, versions, "cohort-7", name="other").status_code == 404
    assert [item["name"] for item in client.get("/v1/sources").json()["items"]] == ["scanner"]


@pytest.mark.parametrize(
    "order", [{}, {"files": [], "source": {"name": "scanner"}}, {"source": {"name": "a/b"}}, {"source": {}}]
)
def test_orders_that_name_no_files_or_two_kinds_of_them_are_refused(
    client: TestClient, versions: str, order: dict[str, Any]
) -> None:
    assert client.post(versions, json=order).status_code == 422


def test_a_bucket_that_is_not_there_is_said_to_be(
    client: TestClient, versions: str, session: Session, workspace: Workspace
) -> None:
    sources.add(session, workspace.id, "scanner", "s3://nobodys-bucket/", own_bucket="overtile")
    answer = register(client, versions, "")
    assert (answer.status_code, answer.json()["detail"]) == (422, "the object store has no bucket nobodys-bucket")


def test_deletion_and_collection_never_touch_the_labs_objects(
    client: TestClient, versions: str, session: Session, storage: Storage, scanner: Bucket
) -> None:
    register(client, versions, "")
    before = scanner.keys()
    assert client.delete(versions.removesuffix("/versions")).status_code == 204
    assert collection.collect(session, storage, seconds=-1) == 3
    assert scanner.keys() == before
    with session.begin():
        assert session.scalars(select(StoredObject)).all() == []


@pytest.mark.parametrize("place", ["http://a/b", "s3://", "s3://UPPER/x", "bucket/prefix", "s3://overtile/workspaces/"])
def test_what_is_no_place_of_the_labs_own_is_refused(session: Session, workspace: Workspace, place: str) -> None:
    with pytest.raises(Invalid):
        sources.add(session, workspace.id, "scanner", place, own_bucket="overtile")


@pytest.mark.usefixtures("scanner")
def test_a_source_is_removed_and_its_name_is_free_again(session: Session, workspace: Workspace) -> None:
    lab = workspace.id
    with pytest.raises(Conflict):
        sources.add(session, lab, "scanner", "s3://lab", own_bucket="overtile")
    sources.remove(session, lab, "scanner")
    with pytest.raises(NotFound):
        sources.remove(session, lab, "scanner")
    assert sources.add(session, lab, "scanner", "s3://lab", own_bucket="overtile").bucket == "lab"


def test_an_administrator_adds_lists_and_removes_sources(
    settings: Settings, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "_load_settings", lambda: settings)
    of_lab, run = ["--workspace", workspace.name], CliRunner()
    added = run.invoke(admin.main, ["source", "add", *of_lab, "--name", "scanner", "s3://lab/scans"])
    assert "s3://lab/scans/ as scanner" in added.output
    assert run.invoke(admin.main, ["source", "list", *of_lab]).output == "scanner\ts3://lab/scans/\n"
    assert run.invoke(admin.main, ["source", "remove", *of_lab, "--name", "scanner"]).exit_code == 0
    assert "no source 'scanner'" in run.invoke(admin.main, ["source", "remove", *of_lab, "--name", "scanner"]).output


def test_a_folder_with_the_names_of_what_jobs_make_is_not_registered(
    client: TestClient, versions: str, scanner: Bucket
) -> None:
    scanner.put({"scans/cohort-70/derived/a.png": b"odd"})
    answer = register(client, versions, "cohort-70")
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith(": derived/a.png")
