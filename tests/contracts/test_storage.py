"""What every object store promises. Nothing that only some of them keep is relied on."""

import hashlib
import os
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from shared.errors import Conflict, NotFound, Unavailable
from shared.settings import Settings
from shared.storage import AT_ONCE, Storage

PART = os.urandom(5 * 2**20)  # the smallest that a part may be


def send_part(store: Storage, key: str, upload: str, number: int) -> None:
    httpx.put(store.part_url(key, upload, number, seconds=60), content=PART).raise_for_status()


def size_of(store: Storage, key: str) -> int | None:
    listed = store.look(key)
    return listed.bytes if listed else None


class StoragePromises:
    @pytest.fixture
    def store(self) -> Storage:
        raise AssertionError("each adapter gives its own")

    @pytest.fixture
    def key(self) -> str:
        return f"tests/{uuid4()}/object"

    def test_what_was_put_is_got(self, store: Storage, key: str) -> None:
        stored = store.put(key, b"cells")
        assert (stored.key, stored.bytes, stored.sha256) == (key, 5, hashlib.sha256(b"cells").hexdigest())
        assert store.get(key) == b"cells"
        assert size_of(store, key) == 5

    def test_an_empty_object_is_an_object(self, store: Storage, key: str) -> None:
        store.put(key, b"")
        assert (store.get(key), size_of(store, key)) == (b"", 0)

    def test_putting_again_replaces(self, store: Storage, key: str) -> None:
        store.put(key, b"first, and longer")
        store.put(key, b"second")
        assert store.get(key) == b"second"

    def test_what_is_not_there_is_not_found(self, store: Storage, key: str, tmp_path: Path) -> None:
        assert store.look(key) is None
        with pytest.raises(NotFound):
            store.get(key)
        with pytest.raises(NotFound):
            store.get_file(key, tmp_path / "file")

    def test_an_object_is_fetched_by_the_tag_it_is_listed_by_and_no_other(
        self, store: Storage, key: str, tmp_path: Path
    ) -> None:
        store.put(key, b"cells")
        listed = store.look(key)
        assert listed is not None
        assert store.get_file(key, tmp_path / "file", etag=listed.etag, most=5) == hashlib.sha256(b"cells").hexdigest()
        store.put(key, b"other cells")  # a store without tags is known by the second and the size
        with pytest.raises(Conflict):
            store.get_file(key, tmp_path / "file", etag=listed.etag)

    def test_an_object_of_more_bytes_than_expected_is_not_fetched(
        self, store: Storage, key: str, tmp_path: Path
    ) -> None:
        store.put(key, b"cells")
        with pytest.raises(Conflict):
            store.get_file(key, tmp_path / "file", most=4)
        assert (tmp_path / "file").read_bytes() == b""

    def test_a_file_of_many_parts_comes_back_whole(self, store: Storage, key: str, tmp_path: Path) -> None:
        (sent := tmp_path / "sent").write_bytes(os.urandom(20_000_000))
        stored = store.put_file(key, sent)
        assert store.get_file(key, tmp_path / "got") == stored.sha256
        assert (tmp_path / "got").read_bytes() == sent.read_bytes()

    def test_other_bytes_than_those_written_are_noticed(self, store: Storage, key: str) -> None:
        stored = store.put(key, b"cells")
        assert store.get_verified(key, sha256=stored.sha256) == b"cells"
        store.put(key, b"bells")
        with pytest.raises(Unavailable, match="other bytes"):
            store.get_verified(key, sha256=stored.sha256)

    def test_a_presigned_url_takes_and_gives_bytes_without_any_key(self, store: Storage, key: str) -> None:
        httpx.put(store.upload_url(key, seconds=60), content=b"cells").raise_for_status()
        answer = httpx.get(store.download_url(key, seconds=60, filename="a.png")).raise_for_status()
        assert answer.content == b"cells"

    def test_an_object_sent_in_parts_is_whole_once_they_are_put_together(self, store: Storage, key: str) -> None:
        upload = store.begin_parts(key)
        for number in (1, 2):
            send_part(store, key, upload, number)
        assert store.look(key) is None
        arrived = store.list_parts(key, upload)
        assert {number: part.bytes for number, part in arrived.items()} == {1: len(PART), 2: len(PART)}
        store.complete_parts(key, upload, arrived)
        assert store.get(key) == 2 * PART

    def test_a_part_sent_twice_counts_once(self, store: Storage, key: str) -> None:
        upload = store.begin_parts(key)
        for number in (1, 2, 1, 2):
            send_part(store, key, upload, number)
        store.complete_parts(key, upload, store.list_parts(key, upload))
        assert store.get(key) == 2 * PART

    def test_an_upload_that_is_over_is_not_found(self, store: Storage, key: str) -> None:
        upload = store.begin_parts(key)
        send_part(store, key, upload, 1)
        arrived = store.list_parts(key, upload)
        store.complete_parts(key, upload, arrived)
        with pytest.raises(NotFound):
            store.list_parts(key, upload)
        with pytest.raises(NotFound):
            store.complete_parts(key, upload, arrived)
        answer = httpx.put(store.part_url(key, upload, 2, seconds=60), content=PART)
        assert answer.status_code == 404

    def test_an_upload_is_listed_until_it_is_given_up(self, store: Storage, key: str) -> None:
        upload = store.begin_parts(key)
        assert [begun.upload for begun in store.list_begun(key)] == [upload]
        store.abort_parts(key, upload)
        store.abort_parts(key, upload)
        assert list(store.list_begun(key)) == []
        assert store.look(key) is None

    def test_other_bytes_have_another_etag(self, store: Storage, key: str) -> None:
        store.put(key, b"cells")
        first, again = store.look(key), store.look(key)
        store.put(key, b"cells, and more")
        last = store.look(key)
        assert first is not None
        assert last is not None
        assert first == again
        assert first.etag != last.etag

    def test_objects_are_listed_by_the_beginning_of_their_keys(self, store: Storage, key: str) -> None:
        for name in ("b", "a", "deeper/c"):
            store.put(f"{key}/{name}", name.encode())
        bucket = Settings.model_fields["s3_bucket"].default
        listed = list(store.list_objects(f"{key}/", bucket=bucket))
        assert [one.key for one in listed] == [f"{key}/{name}" for name in ("a", "b", "deeper/c")]
        assert [store.look(one.key) for one in listed] == listed
        with pytest.raises(NotFound):
            list(store.list_objects("", bucket="nobodys-bucket"))

    def test_many_objects_are_removed_at_once_whether_they_are_there_or_not(self, store: Storage, key: str) -> None:
        for name in ("a", "deeper/b", "kept"):
            store.put(f"{key}/{name}", b"cells")
        store.delete_many([f"{key}/{name}" for name in ("a", "deeper/b", "never")])
        assert [one.key for one in store.list_objects(f"{key}/")] == [f"{key}/kept"]

    def test_removing_nothing_is_no_error(self, store: Storage) -> None:
        store.delete_many([])

    def test_more_objects_are_removed_than_a_request_may_name(self, store: Storage, key: str) -> None:
        store.put(f"{key}/last", b"cells")
        store.delete_many([*(f"{key}/{number}" for number in range(AT_ONCE)), f"{key}/last"])
        assert store.look(f"{key}/last") is None

    def test_a_presigned_url_opens_nothing_else(self, store: Storage, key: str) -> None:
        store.put(key, b"cells")
        url = store.upload_url(f"{key}-other", seconds=60).replace(f"{key}-other", key)
        assert httpx.put(url, content=b"bells").status_code == 403
        assert store.get(key) == b"cells"


class TestRclone(StoragePromises):
    @pytest.fixture
    def store(self, storage: Storage) -> Storage:
        return storage


def test_a_store_that_is_away_is_reported_as_unavailable(server_settings: Settings) -> None:
    away = Storage(Settings.model_validate({**server_settings.model_dump(), "s3_endpoint": "http://127.0.0.1:1"}))
    with pytest.raises(Unavailable, match="did not answer"):
        away.put("key", b"")
