"""What every object store promises. Nothing that only some of them keep is relied on."""

import hashlib
import os
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from shared.errors import NotFound, Unavailable
from shared.settings import Settings
from shared.storage import Storage


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
        assert store.size(key) == 5

    def test_an_empty_object_is_an_object(self, store: Storage, key: str) -> None:
        store.put(key, b"")
        assert (store.get(key), store.size(key)) == (b"", 0)

    def test_putting_again_replaces(self, store: Storage, key: str) -> None:
        store.put(key, b"first, and longer")
        store.put(key, b"second")
        assert store.get(key) == b"second"

    def test_what_is_not_there_is_not_found(self, store: Storage, key: str, tmp_path: Path) -> None:
        assert store.size(key) is None
        with pytest.raises(NotFound):
            store.get(key)
        with pytest.raises(NotFound):
            store.get_file(key, tmp_path / "file")

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
