"""Uploads."""

import hashlib
from pathlib import Path

import overtile
import pytest
from overtile import Client

from tests.unit.sdk.scripted_server import (
    DATASET,
    PIXELS,
    Reply,
    Seen,
    Server,
    problem,
    puts,
    script_upload,
)


def test_an_upload_sends_the_bytes_and_seals_the_version(server: Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PIXELS)
    (tmp_path / "empty.png").touch()
    script_upload(server)
    version = client.datasets.upload(tmp_path, name="cohort-7", progress=False)
    assert version.number == 1
    assert sorted(put.body for put in puts(server)) == [b"", PIXELS]
    sealed = server.requests("POST", f"/v1/datasets/{DATASET['id']}/versions")[0].json["files"]
    assert [(file["name"], file["bytes"]) for file in sealed] == [("a.png", len(PIXELS)), ("empty.png", 0)]


def test_the_store_sees_the_length_and_never_the_key(server: Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PIXELS)
    script_upload(server)
    client.datasets.upload(tmp_path, name="cohort-7", progress=False)
    headers = puts(server)[0].headers
    assert headers["Content-Length"] == str(len(PIXELS))
    assert headers["Transfer-Encoding"] is None
    assert headers["Authorization"] is None
    assert headers["Content-Type"] is None


def test_known_bytes_are_not_sent_and_equal_bytes_are_sent_once(server: Server, client: Client, tmp_path: Path) -> None:
    for name, data in {"a.png": b"known", "b.png": b"twin", "c.png": b"twin"}.items():
        (tmp_path / name).write_bytes(data)
    script_upload(server, known=frozenset({"a.png"}))
    client.datasets.upload(tmp_path, name="cohort-7", progress=False)
    assert [put.body for put in puts(server)] == [b"twin"]


def test_uploads_are_asked_for_in_batches(
    server: Server, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overtile.uploads.BATCH", 4)
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes(bytes([number]))
    script_upload(server)
    client.datasets.upload(tmp_path, name="cohort-7", progress=False)
    asked = server.requests("POST", f"/v1/datasets/{DATASET['id']}/uploads")
    assert [len(seen.json["files"]) for seen in asked] == [4, 4, 2]
    assert len(puts(server)) == 10


def test_a_dataset_of_that_name_is_reused(server: Server, client: Client) -> None:
    server.answer("POST", "/v1/datasets", problem(409, "the name is taken"))
    server.answer("GET", "/v1/datasets", Reply(body={"items": [DATASET], "next_cursor": None}))
    assert str(client.datasets.ensure("cohort-7").id) == DATASET["id"]
    assert server.requests("GET", "/v1/datasets")[0].query["name"] == ["cohort-7"]


@pytest.mark.parametrize("fault", [Reply(503), Reply(cut=True)])
def test_a_broken_put_is_sent_again_from_the_start(
    server: Server, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Reply
) -> None:
    (tmp_path / "a.png").write_bytes(PIXELS)
    server.answer("PUT", f"/store/{hashlib.sha256(PIXELS).hexdigest()}", fault)
    script_upload(server)
    client.datasets.upload(tmp_path, name="cohort-7")
    assert [put.body for put in puts(server)] == [PIXELS, PIXELS]
    assert capsys.readouterr().err.endswith("uploading: 350.0 kB of 350.0 kB\n")  # and not twice as much


def test_an_expired_url_is_replaced_once(server: Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PIXELS)
    server.answer("PUT", f"/store/{hashlib.sha256(PIXELS).hexdigest()}", Reply(403, b"<Error>expired</Error>"))
    script_upload(server)
    client.datasets.upload(tmp_path, name="cohort-7", progress=False)
    assert len(server.requests("POST", f"/v1/datasets/{DATASET['id']}/uploads")) == 2


def test_a_refusing_store_is_quoted_without_the_signature(server: Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PIXELS)
    server.answer("PUT", f"/store/{hashlib.sha256(PIXELS).hexdigest()}", Reply(400, b"EntityTooLarge"))
    script_upload(server)
    with pytest.raises(overtile.StoreError, match="EntityTooLarge") as caught:
        client.datasets.upload(tmp_path, name="cohort-7", progress=False)
    assert "signature" not in str(caught.value)


def test_a_file_that_changes_while_it_is_sent_never_reaches_the_store_whole(
    server: Server, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PIXELS)
    script_upload(server)
    plain = server._replies["POST", f"/v1/datasets/{DATASET['id']}/uploads"].pop()

    def change_then_answer(seen: Seen) -> Reply:
        path.write_bytes(PIXELS.upper())
        assert not isinstance(plain, Reply)
        return plain(seen)

    server.answer("POST", f"/v1/datasets/{DATASET['id']}/uploads", change_then_answer)
    with pytest.raises(overtile.LocalFileError, match=r"a\.png changed while it was uploaded"):
        client.datasets.upload(path, name="cohort-7", progress=False)
    assert not any(len(put.body) == len(PIXELS) for put in puts(server))
    assert not server.requests("POST", f"/v1/datasets/{DATASET['id']}/versions")
