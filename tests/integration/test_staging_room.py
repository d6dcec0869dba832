"""Images of several files, and the room that images take."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
from pydantic import SecretStr

from services.worker.staged_files import StagedFiles
from services.worker.staging import Staging, wanted_of
from shared.errors import Rejected, Unavailable
from shared.settings import Settings
from shared.slides import Limits
from shared.storage import Storage
from shared.tables import JobImage
from tests.integration.test_staging import files_in, stored
from tests.staged import CountingStorage, staging_of


@pytest.fixture
def counting(storage: Storage) -> CountingStorage:
    return CountingStorage(storage)


class TestParts:
    def test_an_image_of_several_files_lies_as_in_the_dataset(
        self, storage: Storage, ihc: Path, tmp_path: Path
    ) -> None:
        image = in_parts(storage, ihc, {"a/B/one.dat": b"one", "a/B/two/three.dat": b"three"})
        with StagedFiles(storage, tmp_path, limit=10**9).hold("0" * 64, wanted_of(image), image="a") as folder:
            found = {str(path.relative_to(folder)): path.read_bytes() for path in files_in(folder)}
        assert found == {"a/B.PNG": ihc.read_bytes(), "a/B/one.dat": b"one", "a/B/two/three.dat": b"three"}

    def test_it_is_opened_by_its_name(self, storage: Storage, ihc: Path, tmp_path: Path) -> None:
        image = in_parts(storage, ihc, {"a/B/one.dat": b"one"})
        staging = Staging(storage, tmp_path, limit=10**9)
        assert staging.open(image).height == 512
        with staging.borrow(image, limits=Limits()) as slide:
            assert slide.height == 512

    def test_a_part_whose_bytes_are_others_is_refused_and_nothing_is_kept(
        self, storage: Storage, ihc: Path, tmp_path: Path
    ) -> None:
        image = in_parts(storage, ihc, {"a/B/one.dat": b"one"})
        image.parts[0]["sha256"] = "0" * 64
        with pytest.raises(Rejected, match=r"a/B\.PNG: a/B/one\.dat: the stored bytes do not have"):
            Staging(storage, tmp_path, limit=10**9).open(image)
        assert files_in(tmp_path) == []

    @pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", "a\0b", "x" * 300, "d/" * 40 + "f"])
    def test_a_part_that_leads_out_of_the_folder_is_refused(
        self, storage: Storage, ihc: Path, tmp_path: Path, name: str
    ) -> None:
        image = in_parts(storage, ihc, {name: b"out"})
        with pytest.raises(Rejected, match="is no name for a file of an image"):
            Staging(storage, tmp_path / "cache", limit=10**9).open(image)
        assert files_in(tmp_path) == []


def in_parts(storage: Storage, path: Path, parts: dict[str, bytes]) -> JobImage:
    image = stored(storage, path)
    image.parts = []
    for name, body in parts.items():
        put = storage.put(f"tests/{uuid4()}", body)
        image.parts.append({"name": name, "key": put.key, "sha256": put.sha256, "bytes": put.bytes})
    return image


class TestRoom:
    def test_a_disk_that_is_full_is_emptied_and_the_image_fetched(
        self, storage: Storage, counting: CountingStorage, ihc: Path, tmp_path: Path
    ) -> None:
        staging = staging_of(counting, tmp_path)
        for pad in range(3):
            staging.open(stored(storage, ihc, pad=pad))
        counting.full = 1
        assert staging.open(stored(storage, ihc, pad=3)).height == 512
        assert counting.files == 5

    def test_a_disk_that_stays_full_is_an_outage_that_names_it(
        self, storage: Storage, counting: CountingStorage, ihc: Path, tmp_path: Path
    ) -> None:
        counting.full = 2
        with pytest.raises(
            Unavailable, match=rf"a/B\.PNG: \d+ bytes are needed, but the disk of the folder {tmp_path}"
        ):
            staging_of(counting, tmp_path).open(stored(storage, ihc))
        assert files_in(tmp_path) == []

    def test_a_file_larger_than_the_disk_is_not_begun(
        self, storage: Storage, counting: CountingStorage, ihc: Path, tmp_path: Path
    ) -> None:
        image = stored(storage, ihc)
        image.bytes = 10**18
        with pytest.raises(Unavailable, match="1000000000000000000 bytes are needed"):
            staging_of(counting, tmp_path).open(image)
        assert counting.files == 0

    def test_a_file_larger_than_the_limit_is_taken_alone(self, storage: Storage, ihc: Path, tmp_path: Path) -> None:
        staging = Staging(storage, tmp_path, limit=1000)
        for pad in range(3):
            assert staging.open(stored(storage, ihc, pad=pad)).height == 512
            assert len(files_in(tmp_path)) == 1

    def test_what_was_wanted_last_stays_the_longest(self, storage: Storage, ihc: Path, tmp_path: Path) -> None:
        staging = Staging(storage, tmp_path, limit=int(2.5 * ihc.stat().st_size))
        first, second, third = (stored(storage, ihc, pad=pad) for pad in range(3))
        for image, wanted_at in ((first, 100), (second, 200)):
            staging.open(image)
            for path in files_in(tmp_path):
                if path.stat().st_mtime > 1000:
                    os.utime(path, (wanted_at, wanted_at))
        staging.open(first)
        staging.open(third)
        counting = CountingStorage(storage)
        Staging(cast("Storage", counting), tmp_path, limit=10**9).open(first)
        assert counting.files == 0

    def test_what_another_holds_is_not_removed(self, storage: Storage, ihc: Path, tmp_path: Path) -> None:
        """Readers that open their file again must find it, whichever process they are in."""
        mine, others = (StagedFiles(storage, tmp_path, limit=1) for _ in range(2))
        image, other = wanted_of(stored(storage, ihc)), wanted_of(stored(storage, ihc, pad=1))
        with mine.hold("0" * 64, image, image="a") as path, others.hold("1" * 64, other, image="b"):
            assert path.exists()
        with others.hold("2" * 64, other, image="b"):
            assert not path.exists()


class TestProcesses:
    def test_many_that_want_many_at_once_in_a_cache_for_two_all_get_them(
        self, server_settings: Settings, storage: Storage, ihc: Path, tmp_path: Path
    ) -> None:
        images = [stored(storage, ihc, pad=pad) for pad in range(5)]
        places = [(image.key, image.sha256, image.bytes) for image in images]
        names = {f"OVERTILE_{name.upper()}": plain(value) for name, value in server_settings.model_dump().items()}
        command = [sys.executable, "-c", ONE_PROCESS, str(tmp_path / "cache"), json.dumps(places)]
        environment = os.environ | {name: value for name, value in names.items() if value is not None}
        started = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
        ends = [process.communicate(timeout=60)[1].decode() for process in started]
        assert [process.returncode for process in started] == [0, 0], ends
        assert list((tmp_path / "cache" / "parts").iterdir()) == []


def plain(value: object) -> str | None:
    if value is None:
        return None
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


ONE_PROCESS = """
import json, random, sys
from pathlib import Path
from uuid import uuid4
from services.worker.staging import Staging
from shared.imaging.tiling import Box
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import JobImage

places = json.loads(sys.argv[2])
staging = Staging(Storage(Settings()), Path(sys.argv[1]), limit=2 * places[0][2])
for _ in range(40):
    key, sha256, size = random.choice(places)
    image = JobImage(id=uuid4(), name="a.png", key=key, sha256=sha256, bytes=size, facts={})
    assert staging.open(image).read(Box(0, 0, 512, 512)).any()
    staging._open.clear()
"""
