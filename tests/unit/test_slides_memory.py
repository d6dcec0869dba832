"""What a slide takes of the process's memory does not grow with its pixels."""

import contextlib
import gc
import tracemalloc
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

from shared.errors import Rejected
from shared.imaging.tiling import Box
from shared.slides import RangedSource, open_slide
from tests.slide_files import read_all, tiff

TILES = 200  # in a row, and as many rows: enough for their list to show


def resident_files() -> int:
    """Bytes of files that this process has mapped and touched."""
    return sum(part.rss for part in psutil.Process().memory_maps() if part.path.endswith("a.tif"))


def tiles_of(path: Path, *, count: int, side: int) -> Path:
    """A grey TIFF of `count × count` tiles, all of them the same."""
    tile = zlib.compress(np.full((side, side), 200, dtype=np.uint8).tobytes())
    size = (count * side, count * side)
    tiles = iter([tile] * count**2)
    tifffile.imwrite(path, tiles, shape=size, dtype=np.uint8, tile=(side, side), compression="zlib")
    return path


def test_no_part_of_an_uncompressed_tiff_stays_mapped_when_it_was_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    with open_slide(tiff(tmp_path / "a.tif", pixels, photometric="rgb")) as slide:
        np.testing.assert_array_equal(read_all(slide), pixels)
        assert resident_files() == 0


def test_where_the_tiles_lie_is_kept_in_sixteen_bytes_each(tmp_path: Path) -> None:
    path = tiles_of(tmp_path / "a.tif", count=TILES, side=16)
    with open_slide(path):  # whatever is imported and kept the first time
        pass
    tracemalloc.start()
    with open_slide(path) as slide:
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert held < 16 * TILES**2 + 150_000
        assert (slide.read(Box(3000, 3100, 3200, 3200)) == 200).all()


@pytest.mark.parametrize("compression", [None, "zlib", "jpeg"])
@pytest.mark.parametrize("ended", ["closed", "dropped"])
def test_a_slide_by_ranges_leaves_nothing_to_the_collector(tmp_path: Path, compression: str | None, ended: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    content = tiff(tmp_path / "a.tif", pixels, tile=(64, 64), photometric="rgb", compression=compression).read_bytes()
    source = RangedSource(lambda offset, count: content[offset : offset + count], len(content))
    alive = weakref.ref(source)
    with uncollected():
        slide = open_slide(source)
        read_all(slide)
        if ended == "closed":
            slide.close()
        del slide, source
        assert alive() is None


def test_a_refused_slide_leaves_nothing_to_the_collector(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", np.zeros((300, 200), np.uint8), tile=(64, 64), compression="zlib")
    content = path.read_bytes()[:-1]
    source = RangedSource(lambda offset, count: content[offset : offset + count], len(content))
    alive = weakref.ref(source)
    with uncollected():
        with contextlib.suppress(Rejected):
            open_slide(source)
        del source
        assert alive() is None


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Only what nobody refers to is freed."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_an_overview_takes_no_more_memory_of_a_larger_image(tmp_path: Path) -> None:
    peaks = []
    for count in (20, 40):  # of several pieces each: two are in hand at once, whichever threads come first
        with open_slide(tiles_of(tmp_path / f"{count}.tif", count=count, side=256)) as slide:
            tracemalloc.start()
            slide.overview(512)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
