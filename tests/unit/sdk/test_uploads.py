"""Large files: in parts, of which each is checked, repeated and resumed by itself."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import overtile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from overtile import Client
from overtile.files import CHUNK, HashedFile, LocalFile, read_hashed, read_unchanged

from tests.unit.sdk.scripted_server import DATASET, VERSION, Reply, Seen, Server, problem, puts

BODY = os.urandom(3 * CHUNK + 17)
DIGEST = hashlib.sha256(BODY).hexdigest()
UPLOADS = f"/v1/datasets/{DATASET['id']}/uploads"


@pytest.fixture(autouse=True)
def _small_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if leaves had a chunk, so that a small file has many."""
    for module in ("files", "uploads"):
        monkeypatch.setattr(f"overtile.{module}.LEAF", CHUNK)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (path := tmp_path / "slide.tif").write_bytes(BODY)
    return path


def hashed(path: Path) -> HashedFile:
    return read_hashed(LocalFile(path.name, path), lambda _: None)


class Store:
    """A store that takes parts of a chunk, and the API in front of it."""

    def __init__(self, server: Server, *, held: int = 0, urls: int = 10) -> None:
        self.server, self.most = server, urls
        self.parts: dict[int, bytes] = dict.fromkeys(range(1, held + 1), b"held")
        self.whole = False
        for number in range(1, 5):
            server.answer("PUT", f"/part/{number}", self._take)
        server.answer("POST", "/v1/datasets", Reply(201, DATASET))
        server.answer("POST", UPLOADS, self._tell)
        server.answer("POST", f"{UPLOADS}/complete", self._complete)
        server.answer("POST", f"/v1/datasets/{DATASET['id']}/versions", Reply(201, VERSION))

    def _take(self, seen: Seen) -> Reply:
        self.parts[int(seen.path.rsplit("/", 1)[1])] = seen.body
        return Reply()

    def _tell(self, seen: Seen) -> Reply:
        [file] = seen.json["files"]
        lacking = [number for number in range(1, 5) if number not in self.parts][: self.most]
        parts = [{"number": number, "url": f"{self.server.url}/part/{number}?signature=s"} for number in lacking]
        multipart = {"upload": None, "part_bytes": CHUNK, "parts": parts, "held": len(self.parts)}
        return Reply(body={"files": [{**file, "url": None, "multipart": None if self.whole else multipart}]})

    def _complete(self, seen: Seen) -> Reply:
        if len(self.parts) < 4:
            return problem(409, "parts are missing")
        self.whole = True
        return Reply(body={"sha256": seen.json["sha256"], "bytes": len(BODY)})


def sent(server: Server) -> list[str]:
    return sorted(seen.path for seen in puts(server))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(first=st.integers(0, 3), count=st.integers(1, 4))
def test_a_part_of_a_file_is_its_bytes_whichever_leaves_it_has(path: Path, first: int, count: int) -> None:
    start, end = first * CHUNK, min((first + count) * CHUNK, len(BODY))
    assert b"".join(read_unchanged(hashed(path), start=start, end=end)) == BODY[start:end]


@pytest.mark.parametrize("leaf", range(4))
def test_a_change_is_noticed_in_the_part_where_it_is(path: Path, leaf: int) -> None:
    before = hashed(path)
    changed = bytearray(BODY)
    changed[leaf * CHUNK] ^= 1
    path.write_bytes(changed)
    for number in range(4):
        part = read_unchanged(before, start=number * CHUNK, end=min((number + 1) * CHUNK, len(BODY)))
        if number == leaf:
            with pytest.raises(overtile.LocalFileError, match="changed"):
                list(part)
        else:
            assert b"".join(part) == BODY[number * CHUNK : (number + 1) * CHUNK]


@pytest.mark.parametrize("change", [lambda body: body + b"more", lambda body: body[:-1]])
def test_a_file_of_another_length_is_noticed_with_its_last_part(path: Path, change: Callable[[bytes], bytes]) -> None:
    before = hashed(path)
    path.write_bytes(change(BODY))
    with pytest.raises(overtile.LocalFileError, match="changed"):
        list(read_unchanged(before, start=3 * CHUNK, end=len(BODY)))


def test_a_large_file_goes_in_parts_and_is_put_together_once(server: Server, client: Client, path: Path) -> None:
    store = Store(server)
    client.datasets.upload(path, name="cohort-7", progress=False)
    assert b"".join(store.parts[number] for number in range(1, 5)) == BODY
    assert [seen.json for seen in server.requests("POST", f"{UPLOADS}/complete")] == [{"sha256": DIGEST}]


def test_parts_that_the_store_has_are_not_sent_and_count_as_done(
    server: Server, client: Client, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(server, held=3)
    client.datasets.upload(path, name="cohort-7")
    assert sent(server) == ["/part/4"]
    assert capsys.readouterr().err.splitlines()[-1] == "uploading: 3.1 MB of 3.1 MB"


def test_what_an_answer_has_no_room_for_is_asked_for_again(server: Server, client: Client, path: Path) -> None:
    store = Store(server, urls=1)
    client.datasets.upload(path, name="cohort-7", progress=False)
    assert (store.whole, len(server.requests("POST", UPLOADS))) == (True, 4)


@pytest.mark.parametrize("fault", [Reply(503), Reply(cut=True), Reply(404), Reply(403)])
def test_a_part_that_fails_costs_that_part_alone(server: Server, client: Client, path: Path, fault: Reply) -> None:
    server.answer("PUT", "/part/4", fault)
    store = Store(server)
    client.datasets.upload(path, name="cohort-7", progress=False)
    assert store.whole
    assert sent(server) == ["/part/1", "/part/2", "/part/3", "/part/4", "/part/4"]


def test_an_upload_that_never_gets_on_is_given_up(server: Server, client: Client, path: Path) -> None:
    Store(server, urls=0)
    with pytest.raises(overtile.UnexpectedAnswer, match=r"slide\.tif"):
        client.datasets.upload(path, name="cohort-7", progress=False)


def test_a_file_that_another_client_completes_meanwhile_is_not_sent_to_the_end(
    server: Server, client: Client, path: Path
) -> None:
    store: Store

    def overtaken(_: Seen) -> Reply:
        store.whole = True
        return Reply(404)

    server.answer("PUT", "/part/1", overtaken)
    store = Store(server, urls=1)
    client.datasets.upload(path, name="cohort-7", progress=False)
    assert sent(server) == ["/part/1"]


def test_parts_that_cannot_be_checked_are_not_sent(
    server: Server, client: Client, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overtile.uploads.LEAF", 3 * CHUNK)
    Store(server)
    with pytest.raises(overtile.UnexpectedAnswer, match="too old"):
        client.datasets.upload(path, name="cohort-7", progress=False)
    assert puts(server) == []


def test_a_version_that_is_refused_for_lost_files_is_sealed_after_another_look(
    server: Server, client: Client, path: Path
) -> None:
    versions = f"/v1/datasets/{DATASET['id']}/versions"
    server.answer("POST", versions, problem(422, "send these files first"))
    Store(server)
    client.datasets.upload(path, name="cohort-7", progress=False)
    assert len(server.requests("POST", versions)) == 2


def test_a_folder_of_a_source_is_registered_without_any_upload(server: Server, client: Client) -> None:
    Store(server)
    client.datasets.register("scanner", "2026/cohort-7", name="cohort-7", parent=3)
    order: dict[str, Any] = server.requests("POST", f"/v1/datasets/{DATASET['id']}/versions")[0].json
    assert order == {"source": {"name": "scanner", "path": "2026/cohort-7"}, "parent": 3}


def test_a_deletion_is_answered_by_nothing(server: Server, client: Client) -> None:
    server.answer("DELETE", f"/v1/datasets/{DATASET['id']}", Reply(204))
    client.datasets.delete(DATASET["id"])
    assert len(server.seen) == 1
