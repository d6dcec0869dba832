"""Bytes of files: on disk, and in an object store by ranges."""

import io
import threading
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import Rejected, Unavailable
from shared.imaging.tiling import Box
from shared.slides import BlockCache, Limits, LocalSource, NotByRanges, RangedSource, Source, open_slide, ranges
from shared.slides.ranges import BLOCK, LONGEST
from shared.slides.source import SourceFile
from tests.slide_files import NOISE, aperio, tiff

CONTENT = np.random.default_rng(1).bytes(5 * BLOCK + 1234)


class Store:
    """Answers from memory, and remembers what it was asked for."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []
        self.away: range = range(0)  # bytes that it does not give

    def __call__(self, offset: int, count: int) -> bytes:
        self.asked.append((offset, count))
        if max(offset, self.away.start) < min(offset + count, self.away.stop):
            raise Unavailable("the store is away")
        return self.content[offset : offset + count]


class ScarceCache(BlockCache):
    """Has no memory for one block, as long as it is scarce."""

    def __init__(self, method: str, *, number: int) -> None:
        super().__init__()
        self.scarce, self._fails = True, (method, number)

    def get(self, name: Hashable, number: int) -> bytes | None:
        self._check("get", number)
        return super().get(name, number)

    def put(self, name: Hashable, number: int, block: bytes) -> None:
        self._check("put", number)
        super().put(name, number, block)

    def _check(self, method: str, number: int) -> None:
        if self.scarce and (method, number) == self._fails:
            raise MemoryError


def ranged(store: Store, cache: BlockCache | None = None) -> RangedSource:
    return RangedSource(store, len(store.content), cache=cache)


PLACES = st.lists(st.tuples(st.integers(0, len(CONTENT) + 9), st.integers(0, 3 * BLOCK)), max_size=6)


@given(runs=PLACES, limit=st.sampled_from([0, BLOCK, 10 * BLOCK]))
def test_ranges_give_the_bytes_that_stand_there_however_little_is_kept(runs: list[tuple[int, int]], limit: int) -> None:
    source = ranged(Store(), BlockCache(limit))
    expected = [CONTENT[offset : offset + count] for offset, count in runs]
    assert source.read_many(runs) == expected
    assert [source.read(*run) for run in runs] == expected


def test_a_file_on_disk_gives_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    source = LocalSource(tmp_path / "a")
    assert source.size == len(CONTENT)
    assert source.read_many([(5, 10), (len(CONTENT) - 3, 10)]) == [CONTENT[5:15], CONTENT[-3:]]
    source.close()
    source.close()
    with pytest.raises(ValueError, match="closed"):
        source.read(0, 1)


class TestRanges:
    def test_what_was_fetched_is_not_asked_for_again(self) -> None:
        store = Store()
        source = ranged(store)
        source.read(10, 20)
        source.read(BLOCK - 10, 10)
        assert store.asked == [(0, BLOCK)]

    def test_neighbouring_blocks_are_one_request(self) -> None:
        store = Store()
        source = ranged(store)
        source.read_many([(0, 10), (3 * BLOCK, 10), (BLOCK + 5, 10)])
        assert sorted(store.asked) == [(0, 2 * BLOCK), (3 * BLOCK, BLOCK)]
        assert (source.requests, source.bytes_fetched) == (2, 3 * BLOCK)

    def test_no_request_is_longer_than_a_limit(self) -> None:
        store = Store(bytes((LONGEST + 3) * BLOCK))
        assert ranged(store).read(0, len(store.content)) == store.content
        assert sorted(store.asked) == [(0, LONGEST * BLOCK), (LONGEST * BLOCK, 3 * BLOCK)]

    def test_the_last_block_is_asked_for_as_far_as_the_file_goes(self) -> None:
        store = Store()
        ranged(store).read(5 * BLOCK + 1000, 5000)
        assert store.asked == [(5 * BLOCK, 1234)]

    def test_threads_that_want_the_same_at_once_make_one_request(self) -> None:
        arrived, go_on = threading.Event(), threading.Event()
        store = Store()

        def slow(offset: int, count: int) -> bytes:
            arrived.set()
            assert go_on.wait(10)
            return store(offset, count)

        source = RangedSource(slow, len(CONTENT))
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(source.read, 0, 10)
            assert arrived.wait(10)
            second = threads.submit(source.read, 5, 10)
            go_on.set()
            assert (first.result(), second.result()) == (CONTENT[:10], CONTENT[5:15])
        assert len(store.asked) == 1

    def test_an_outage_is_told_and_over_when_it_is_over(self) -> None:
        store = Store()
        source = ranged(store)
        store.away = range(2 * BLOCK, 6 * BLOCK)
        with pytest.raises(Unavailable, match="away"):
            source.read_many([(0, 10), (2 * BLOCK, 10), (4 * BLOCK, 10)])
        store.away = range(0)
        assert source.read(4 * BLOCK, 10) == CONTENT[4 * BLOCK :][:10]

    def test_whoever_waits_hears_that_the_memory_of_another_ran_out(self) -> None:
        arrived, go_on = threading.Event(), threading.Event()

        def fail(_offset: int, _count: int) -> bytes:
            arrived.set()
            assert go_on.wait(10)
            raise MemoryError

        source = RangedSource(fail, len(CONTENT))
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(source.read, 0, 10)
            assert arrived.wait(10)
            second = threads.submit(source.read, 5, 10)
            go_on.set()
            for reading in (first, second):
                with pytest.raises(MemoryError):
                    reading.result(10)

    @pytest.mark.parametrize("method", ["get", "put"])
    def test_a_thread_that_has_no_memory_for_its_second_block_leaves_nobody_waiting(self, method: str) -> None:
        cache = ScarceCache(method, number=1)
        source = ranged(Store(), cache)
        with pytest.raises(MemoryError):
            source.read(0, 2 * BLOCK)
        cache.scarce = False
        threads = ThreadPoolExecutor(1)
        assert threads.submit(source.read, 0, 2 * BLOCK).result(10) == CONTENT[: 2 * BLOCK]

    def test_requests_that_nobody_answers_are_not_waited_for_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ranges, "PATIENCE", 0.05)
        go_on = threading.Event()

        def stall(_offset: int, count: int) -> bytes:
            assert go_on.wait(10)
            return bytes(count)

        source = RangedSource(stall, len(CONTENT))
        with pytest.raises(Unavailable, match=r"did not come within 0\.05 s"):
            source.read_many([(0, 10), (2 * BLOCK, 10)])
        go_on.set()

    def test_an_answer_that_is_too_short_is_no_answer(self) -> None:
        source = RangedSource(lambda _, count: bytes(count - 1), len(CONTENT))
        with pytest.raises(Unavailable, match=f"{BLOCK - 1} bytes came where {BLOCK}"):
            source.read(0, 10)

    def test_a_cache_that_is_shared_keeps_within_its_limit_and_files_apart(self) -> None:
        cache = BlockCache(3 * BLOCK)
        other = Store(CONTENT[::-1])
        for source, content in ((ranged(Store(), cache), CONTENT), (ranged(other, cache), other.content)):
            for start in range(0, len(CONTENT), BLOCK):
                assert source.read(start, 100) == content[start : start + 100]
                assert cache.held <= 3 * BLOCK


class TestSourceFile:
    def test_it_reads_as_a_file_does(self) -> None:
        file, same = SourceFile(ranged(Store())), io.BytesIO(CONTENT)
        for offset, whence, count in ((7, io.SEEK_SET, 30), (-20, io.SEEK_END, 100), (-500, io.SEEK_CUR, 9)):
            assert file.seek(offset, whence) == same.seek(offset, whence)
            assert file.read(count) == same.read(count)
            assert file.tell() == same.tell()
        buffer = bytearray(50)
        file.seek(BLOCK - 10)
        assert file.readinto(buffer) == 50
        assert bytes(buffer) == CONTENT[BLOCK - 10 :][:50]


class TestSlidesByRanges:
    def test_a_small_region_reads_a_small_part_of_the_file(self, tmp_path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3), dtype=np.uint8)
        content = tiff(tmp_path / "a.tif", pixels, tile=(128, 128), photometric="rgb", compression="zlib").read_bytes()
        source = ranged(Store(content))
        with open_slide(source) as slide:
            np.testing.assert_array_equal(slide.read(Box(600, 300, 1000, 700)), pixels[600:1000, 300:700])
        assert source.bytes_fetched < 0.2 * len(content)

    def test_an_outage_is_not_taken_for_damage(self, tmp_path: Path) -> None:
        """Whatever part of the file is away: tags, tile or the very first bytes."""
        content = tiff(tmp_path / "a.tif", NOISE.repeat(9, axis=0), tile=(64, 64), photometric="rgb").read_bytes()
        assert len(content) > 4 * BLOCK
        for away in range(0, len(content), BLOCK):
            store = Store(content)
            store.away = range(away, away + BLOCK)
            with pytest.raises(Unavailable), open_slide(ranged(store)) as slide:
                slide.read(Box(0, 0, slide.height, slide.width))

    def test_a_cut_file_is_refused_as_on_disk(self, tmp_path: Path) -> None:
        whole = tiff(tmp_path / "a.tif", NOISE, tile=(64, 64), compression="zlib", photometric="rgb").read_bytes()
        for length in range(8, len(whole), len(whole) // 40):
            (tmp_path / "cut.tif").write_bytes(whole[:length])
            sources: list[Source] = [ranged(Store(whole[:length])), LocalSource(tmp_path / "cut.tif")]
            texts = [refused(source) for source in sources]
            assert texts[0] == texts[1]

    @settings(max_examples=150, deadline=None)
    @given(kind=st.sampled_from(["plain", "zlib", "jpeg", "stains"]), data=st.data())
    def test_flipped_bits_are_read_or_refused_alike_from_disk_and_by_ranges(
        self, damageable: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
    ) -> None:
        content = bytearray(damageable[kind])
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        path = tmp_path_factory.mktemp("flipped") / "a.tif"
        path.write_bytes(content)
        outcomes = [outcome(LocalSource(path)), outcome(ranged(Store(bytes(content))))]
        assert outcomes[0] == outcomes[1]

    def test_what_is_no_tiff_must_be_brought_to_disk(self) -> None:
        with pytest.raises(NotByRanges):
            open_slide(ranged(Store(b"\x89PNG\r\n\x1a\n" + bytes(100))))

    @pytest.mark.parametrize(
        "about",
        [
            {"software": "MedScan 1.0"},
            {"software": "Philips DP v1.0"},
            {"extratags": [(700, 1, 20, b"<iScan Magnification", True)]},
            {"description": '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"></scn>'},
        ],
    )
    def test_what_only_openslide_reads_rightly_must_be_brought_to_disk(
        self, tmp_path: Path, about: dict[str, Any]
    ) -> None:
        path = tiff(tmp_path / "a.tif", NOISE, tile=(64, 64), photometric="rgb", metadata=None, **about)
        with pytest.raises(NotByRanges):
            open_slide(ranged(Store(path.read_bytes())))

    def test_a_damaged_slide_is_refused_with_its_mend(self, tmp_path: Path) -> None:
        content = aperio(tmp_path / "a.svs").read_bytes()
        assert "copy it again from the scanner" in refused(ranged(Store(content[: len(content) // 2])))


@pytest.fixture(scope="module")
def damageable(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small TIFFs, of which the header is a good part."""
    path, small = tmp_path_factory.mktemp("whole") / "a.tif", NOISE[:60, :50]
    rgb: dict[str, Any] = {"tile": (32, 32), "photometric": "rgb"}
    stains = np.stack([small[:, :, 0] * np.uint16(9)] * 3)
    return {
        "plain": tiff(path, small, photometric="rgb").read_bytes(),
        "zlib": tiff(path, small, compression="zlib", predictor=True, **rgb).read_bytes(),
        "jpeg": tiff(path, small, compression="jpeg", **rgb).read_bytes(),
        "stains": tiff(path, stains, imagej=True, metadata={"axes": "CYX"}).read_bytes(),
    }


def outcome(source: Source) -> str | bytes:
    """The pixels, or why there are none."""
    try:
        with open_slide(source, name="a.tif", limits=Limits(pixels=10**7)) as slide:
            return slide.read(Box(0, 0, slide.height, slide.width)).tobytes()
    except (Rejected, NotByRanges) as error:
        return f"{type(error).__name__}: {error}"


def refused(source: Source) -> str:
    with pytest.raises(Rejected) as caught, open_slide(source, name="a.tif") as slide:
        slide.read(Box(0, 0, slide.height, slide.width))
    return str(caught.value)
