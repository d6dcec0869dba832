"""Large files on their way into the store, through the API and the real store."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, func, select, update
from sqlalchemy.orm import Session

from shared.database import Sessions
from shared.domain import objects, uploads, workspaces
from shared.domain.objects import Verified
from shared.domain.uploads import LEAF_BYTES, MOST_PARTS, URLS_AT_ONCE, URLS_PER_FILE, part_bytes_of
from shared.schemas.datasets import MAX_FILE_BYTES, FileIn
from shared.storage import Storage, object_key
from shared.tables import StoredObject, Upload, Workspace

BODY = os.urandom(2 * LEAF_BYTES) + b"the end"
DIGEST = hashlib.sha256(BODY).hexdigest()
FILE = {"name": "slide.tif", "sha256": DIGEST, "bytes": len(BODY)}
LONG_AGO = func.now() - func.make_interval(0, 0, 0, 3)

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def dataset(client: TestClient) -> str:
    return str(client.post("/v1/datasets", json={"name": "cohort"}).json()["id"])


@pytest.fixture
def ask(client: TestClient, dataset: str) -> Ask:
    def post(*files: dict[str, Any]) -> dict[str, Any]:
        answer = client.post(f"/v1/datasets/{dataset}/uploads", json={"files": files or [FILE]})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["files"][0]
        return found

    return post


def complete(client: TestClient, dataset: str, sha256: str = DIGEST) -> httpx.Response:
    answer: httpx.Response = client.post(f"/v1/datasets/{dataset}/uploads/complete", json={"sha256": sha256})
    return answer


def send(multipart: dict[str, Any], *, most: int = 10) -> None:
    for part in multipart["parts"][:most]:
        start = (part["number"] - 1) * multipart["part_bytes"]
        httpx.put(part["url"], content=BODY[start : start + multipart["part_bytes"]]).raise_for_status()


@given(size=st.integers(LEAF_BYTES + 1, MAX_FILE_BYTES))
def test_no_file_has_more_parts_than_a_store_takes_and_each_is_whole_leaves(size: int) -> None:
    part = part_bytes_of(size)
    assert part % LEAF_BYTES == 0
    assert -(-size // part) <= MOST_PARTS


def test_a_large_file_goes_in_parts_and_is_put_together(
    client: TestClient, dataset: str, ask: Ask, storage: Storage, workspace: Workspace
) -> None:
    target = ask()
    assert (target["url"], target["multipart"]["held"], len(target["multipart"]["parts"])) == (None, 0, 3)
    send(target["multipart"])
    assert complete(client, dataset).json() == {"sha256": DIGEST, "bytes": len(BODY)}
    assert storage.get(object_key(workspace.id, DIGEST)) == BODY
    assert ask()["multipart"] is None
    assert client.post(f"/v1/datasets/{dataset}/versions", json={"files": [FILE]}).status_code == 201


def test_only_the_parts_that_the_store_lacks_are_asked_for_again(ask: Ask) -> None:
    send(ask()["multipart"], most=2)
    left = ask()["multipart"]
    assert (left["held"], [part["number"] for part in left["parts"]]) == (2, [3])


def test_a_file_is_not_put_together_while_parts_are_missing(client: TestClient, dataset: str, ask: Ask) -> None:
    send(ask()["multipart"], most=1)
    answer = complete(client, dataset)
    assert (answer.status_code, "2 of 3 parts" in answer.json()["detail"]) == (409, True)
    assert ask()["multipart"]["held"] == 1


def test_putting_together_twice_is_as_once(client: TestClient, dataset: str, ask: Ask, session: Session) -> None:
    send(ask()["multipart"])
    assert complete(client, dataset).json() == complete(client, dataset).json()
    with session.begin():
        assert session.scalars(select(Upload)).all() == []


def test_a_file_that_nobody_asked_to_upload_cannot_be_put_together(client: TestClient, dataset: str) -> None:
    assert complete(client, dataset, "0" * 64).status_code == 404


def test_an_upload_that_the_store_has_forgotten_begins_anew(
    client: TestClient, dataset: str, ask: Ask, session: Session, storage: Storage
) -> None:
    send(ask()["multipart"], most=2)
    with session.begin():
        upload = session.scalars(select(Upload)).one()
    storage.abort_parts(upload.key, upload.store_upload)
    assert complete(client, dataset).status_code == 409
    again = ask()["multipart"]
    assert (again["held"], len(again["parts"])) == (0, 3)
    send(again)
    assert complete(client, dataset).status_code == 200


def test_two_clients_that_send_the_same_file_at_once_end_with_one_object(
    client: TestClient, dataset: str, ask: Ask, storage: Storage, workspace: Workspace
) -> None:
    def upload(_: int) -> None:
        while (multipart := ask()["multipart"]) is not None:
            try:
                send(multipart)
            except httpx.HTTPStatusError as error:  # the other one has completed it
                assert error.response.status_code == 404  # noqa: PT017  # any other fault fails the test
                continue
            assert complete(client, dataset).status_code in (200, 409)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(upload, range(2)))
    key = object_key(workspace.id, DIGEST)
    assert storage.get(key) == BODY
    assert list(storage.list_begun(key)) == []


def test_answers_stay_small_however_large_the_files(client: TestClient, dataset: str) -> None:
    huge = [{"name": f"{n}.tif", "sha256": f"{n:064x}", "bytes": MAX_FILE_BYTES} for n in range(8)]
    files = client.post(f"/v1/datasets/{dataset}/uploads", json={"files": huge}).json()["files"]
    counts = [len(file["multipart"]["parts"]) for file in files]
    assert counts == [URLS_PER_FILE] * (URLS_AT_ONCE // URLS_PER_FILE) + [0] * 3
    too_large = {**FILE, "bytes": MAX_FILE_BYTES + 1}
    assert client.post(f"/v1/datasets/{dataset}/uploads", json={"files": [too_large]}).status_code == 422


def test_bytes_that_the_workspace_has_are_not_sent_again_for_another_dataset(
    client: TestClient, ask: Ask, session: Session
) -> None:
    small = {"name": "a.png", "sha256": hashlib.sha256(b"cells").hexdigest(), "bytes": 5}
    httpx.put(ask(small)["url"], content=b"cells").raise_for_status()
    other = client.post("/v1/datasets", json={"name": "other"}).json()["id"]
    target = client.post(f"/v1/datasets/{other}/uploads", json={"files": [small]}).json()["files"][0]
    assert (target["url"], target["multipart"]) == (None, None)
    assert client.post(f"/v1/datasets/{other}/versions", json={"files": [small]}).status_code == 201
    with session.begin():
        assert len(session.scalars(select(StoredObject)).all()) == 1


def test_no_workspace_is_given_anothers_bytes_for_their_hash(client: TestClient, ask: Ask, session: Session) -> None:
    small = {"name": "a.png", "sha256": hashlib.sha256(b"cells").hexdigest(), "bytes": 5}
    httpx.put(ask(small)["url"], content=b"cells").raise_for_status()
    other = workspaces.create(session, "other lab")
    client.headers["Authorization"] = f"Bearer {workspaces.issue_key(session, other, label='test')}"
    theirs = client.post("/v1/datasets", json={"name": "cohort"}).json()["id"]
    assert client.post(f"/v1/datasets/{theirs}/uploads", json={"files": [small]}).json()["files"][0]["url"]


SMALL = {"name": "a.png", "sha256": hashlib.sha256(b"cells").hexdigest(), "bytes": 5}


def upload_verified(ask: Ask, session: Session) -> StoredObject:
    """The object of SMALL, uploaded and read since."""
    httpx.put(ask(SMALL)["url"], content=b"cells").raise_for_status()
    with session.begin():
        row = session.scalars(select(StoredObject)).one()
        objects.mark_verified(session, {row.id: Verified(row.sha256 or "", "e")})
    return row


def test_an_object_that_is_gone_from_the_store_counts_as_unread(
    ask: Ask, session: Session, storage: Storage, workspace: Workspace
) -> None:
    row = upload_verified(ask, session)
    storage.delete(row.key)
    assert ask(SMALL)["url"] is not None
    with session.begin():
        session.refresh(row)
    assert row.verified_at is None


def test_an_upload_that_nobody_goes_on_with_is_given_up(ask: Ask, session: Session, storage: Storage) -> None:
    send(ask()["multipart"], most=1)
    with session.begin():
        upload = session.scalars(select(Upload)).one()
        session.execute(update(Upload).values(created_at=LONG_AGO))
    assert uploads.abort_abandoned(session, storage, seconds=86_400) == 0, "it was asked for a moment ago"
    with session.begin():
        session.execute(update(StoredObject).values(wanted_at=LONG_AGO))
    assert uploads.abort_abandoned(session, storage, seconds=86_400) == 1
    assert list(storage.list_begun(upload.key)) == []


def test_an_upload_that_was_begun_and_never_noted_is_given_up(
    session: Session, storage: Storage, workspace: Workspace
) -> None:
    key = object_key(workspace.id, DIGEST)
    storage.begin_parts(key)
    assert uploads.abort_abandoned(session, storage, seconds=86_400) == 0
    assert uploads.abort_abandoned(session, storage, seconds=-1) >= 1
    assert list(storage.list_begun(key)) == []


def test_bytes_that_were_read_are_not_written_over_by_who_announces_another_size(
    client: TestClient, dataset: str, ask: Ask, session: Session
) -> None:
    upload_verified(ask, session)
    answer = client.post(f"/v1/datasets/{dataset}/uploads", json={"files": [{**SMALL, "bytes": 6}]})
    assert answer.status_code == 422
    assert "has 5 bytes, and 6 are announced" in answer.json()["detail"]


def test_who_begins_an_upload_beside_another_client_goes_on_with_that_ones(
    session: Session, sessions: Sessions, storage: Storage, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the other client would end it at that very moment."""
    begin, large = Storage.begin_parts, FileIn.model_validate(FILE)

    def begin_second(store: Storage, key: str) -> str:
        monkeypatch.setattr(Storage, "begin_parts", begin)
        with sessions() as other:
            uploads.request(other, store, workspace.id, [large])
        return begin(store, key)

    def end_first() -> None:
        with sessions() as other, other.begin():
            for upload in other.scalars(select(Upload).with_for_update(skip_locked=True)):
                other.delete(upload)

    monkeypatch.setattr(Storage, "begin_parts", begin_second)
    bind = session.get_bind()
    event.listen(bind, "after_cursor_execute", ended := once_after("INSERT INTO uploads", end_first))
    (target,) = uploads.request(session, storage, workspace.id, [large])
    event.remove(bind, "after_cursor_execute", ended)
    with session.begin():
        assert target.parts is not None
        assert session.scalars(select(Upload.id)).all() == [target.parts.upload]


def once_after(statement: str, do: Callable[[], None]) -> Callable[..., None]:
    """A listener that does it after the second statement that begins so: the first is the other client's."""
    seen: list[str] = []

    def listen(connection: object, cursor: object, executed: str, *_: object) -> None:
        if executed.startswith(statement):
            seen.append(executed)
            if len(seen) == 2:
                do()

    return listen
