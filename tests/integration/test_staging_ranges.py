"""Large images are read where they lie, if their bytes are known to be right."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from shared.errors import Conflict, NotFound, Rejected, Unavailable
from shared.imaging.tiling import Box
from shared.storage import Storage
from shared.tables import JobImage
from tests.integration.test_staging import files_in, stored
from tests.staged import CountingStorage, staging_of


@pytest.fixture
def counting(storage: Storage) -> CountingStorage:
    return CountingStorage(storage)


@pytest.fixture
def slide(storage: Storage, tmp_path: Path) -> JobImage:
    """A TIFF in the store whose bytes were verified."""
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 1500, 3), dtype=np.uint8)
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb")
    image = stored(storage, path)
    image.verified, image.etag = True, etag_of(storage, image)
    path.unlink()
    return image


def etag_of(storage: Storage, image: JobImage) -> str:
    found = storage.look(image.key)
    assert found is not None
    return found.etag


class TestRanges:
    def test_a_tiff_whose_bytes_are_verified_is_read_where_it_lies(
        self, counting: CountingStorage, slide: JobImage, tmp_path: Path
    ) -> None:
        region = staging_of(counting, tmp_path).open(slide).read(Box(500, 500, 700, 700))
        np.testing.assert_array_equal(region, expected()[500:700, 500:700])
        assert files_in(tmp_path) == []
        assert 0 < sum(counting.ranges) < slide.bytes / 3

    def test_one_that_nobody_verified_is_fetched_whole(
        self, counting: CountingStorage, slide: JobImage, tmp_path: Path
    ) -> None:
        slide.verified = False
        staging_of(counting, tmp_path).open(slide)
        assert counting.ranges == []
        assert len(files_in(tmp_path)) == 1

    def test_what_lies_here_already_is_not_fetched_again(
        self, counting: CountingStorage, slide: JobImage, tmp_path: Path
    ) -> None:
        slide.verified = False
        staging_of(counting, tmp_path).open(slide)
        slide.verified = True
        staging_of(counting, tmp_path).open(slide)
        assert (counting.files, counting.ranges) == (1, [])

    def test_what_is_no_tiff_is_fetched_whole(
        self, storage: Storage, counting: CountingStorage, ihc: Path, tmp_path: Path
    ) -> None:
        image = stored(storage, ihc)
        image.verified = True
        assert staging_of(counting, tmp_path).open(image).format == "png"

    def test_one_that_was_replaced_by_the_same_bytes_is_fetched_and_compared(
        self, counting: CountingStorage, slide: JobImage, tmp_path: Path
    ) -> None:
        slide.etag = "another"
        staging = staging_of(counting, tmp_path)
        region = staging.open(slide).read(Box(500, 500, 700, 700))
        np.testing.assert_array_equal(region, expected()[500:700, 500:700])
        assert counting.files == 1

    def test_one_that_is_replaced_while_it_is_read_is_fetched_at_the_next_try_and_refused(
        self, storage: Storage, counting: CountingStorage, slide: JobImage, tmp_path: Path
    ) -> None:
        staging = staging_of(counting, tmp_path)
        opened = staging.open(slide)
        storage.put(slide.key, bytes(slide.bytes + 1))
        with pytest.raises(Unavailable, match=r"B\.PNG: the file was replaced in the object store"):
            opened.read(Box(0, 0, 2000, 1500))
        with pytest.raises(Rejected, match="announced sha256"):
            staging.open(slide)

    def test_one_that_is_gone_while_it_is_read_is_said_to_be(
        self, storage: Storage, counting: CountingStorage, slide: JobImage, tmp_path: Path
    ) -> None:
        opened = staging_of(counting, tmp_path).open(slide)
        storage.delete(slide.key)
        with pytest.raises(Rejected, match="not in the object store any more"):
            opened.read(Box(0, 0, 2000, 1500))


def expected() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2000, 1500, 3), dtype=np.uint8)


class TestStorage:
    """What the port promises of ranges."""

    def test_a_range_is_what_stands_there(self, storage: Storage) -> None:
        put = storage.put("tests/ranges", bytes(range(256)))
        assert storage.read_range(put.key, 10, 5) == bytes(range(10, 15))
        assert storage.read_range(put.key, 250, 6) == bytes(range(250, 256))

    def test_a_range_beyond_the_end_is_no_answer(self, storage: Storage) -> None:
        put = storage.put("tests/ranges", bytes(256))
        for offset in (250, 300):
            with pytest.raises(Unavailable):
                storage.read_range(put.key, offset, 10)

    def test_an_object_that_was_replaced_is_not_read(self, storage: Storage) -> None:
        key = storage.put("tests/replaced", b"first").key
        first = storage.look(key)
        storage.put(key, b"the second")
        assert first is not None
        with pytest.raises(Conflict, match="tests/replaced was replaced"):
            storage.read_range(key, 0, 5, etag=first.etag)

    def test_what_is_not_there_is_not_found(self, storage: Storage) -> None:
        with pytest.raises(NotFound):
            storage.read_range("tests/nothing", 0, 5)
