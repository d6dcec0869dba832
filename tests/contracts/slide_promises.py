"""What every reader of images promises, whatever the format on disk: subclass `SlidePromises` for each."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.imaging.normalisation import Samples
from shared.imaging.tiling import Box, Pixels, mirror_read, read_mirrored
from shared.slides import Slide, Windows, open_slide
from shared.slides.slide import RGB

HEIGHT, WIDTH = 301, 417
METRIC = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}  # half a micrometre per pixel


def scene() -> Pixels:
    """Red grows to the right and green downwards; two patches show the darkest and the brightest value there is."""
    down, right = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([right * 200 // WIDTH + 20, down * 200 // HEIGHT + 20, np.full_like(down, 90)], axis=2)
    pixels[20:60, 300:340], pixels[200:240, 50:90] = 0, 255
    return pixels.astype(np.uint8)


def grey() -> Pixels:
    return scene()[:, :, 0]


def deep() -> Samples:
    """The scene in numbers that 8 bits do not hold, (H, W, 3) uint16: 100 … 2395."""
    return scene().astype(np.uint16) * 9 + 100


def repeated(pixels: Pixels) -> Pixels:
    return pixels[:, :, None].repeat(3, axis=2)


@dataclass(frozen=True)
class Kind:
    """A way to write the scene. `shows`: the pixels that a reader should find, within `tolerance` on the average.

    `each`: its channels, if they are not the first of `shows`. `samples`: their numbers (H, W, C) as they were written,
    if they are not what is shown.
    """

    name: str
    write: Callable[[Path], object]
    shows: Pixels
    tolerance: float = 0.0
    mpp: float | None = None
    channels: tuple[str, ...] = RGB
    dtype: str = "uint8"
    each: Pixels | None = None
    samples: Samples | None = None

    @property
    def shown(self) -> Pixels:
        """Every channel as uint8."""
        return self.shows[:, :, : len(self.channels)] if self.each is None else self.each


def kinds(*all_kinds: Kind) -> list[object]:
    return [pytest.param(kind, id=kind.name) for kind in all_kinds]


class SlidePromises:
    reader: type[Slide]

    @classmethod
    def open(cls, path: Path, window: Windows | None = None) -> Slide:
        return open_slide(path, window=window)

    @pytest.fixture(scope="class")
    @classmethod
    def kind(cls) -> Kind:
        raise AssertionError("each adapter gives its own")

    @pytest.fixture(scope="class")
    @classmethod
    def path(cls, kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("slides") / kind.name
        kind.write(path)
        return path

    @pytest.fixture(scope="class")
    @classmethod
    def slide(cls, path: Path) -> Iterator[Slide]:
        with cls.open(path) as slide:
            yield slide

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, slide: Slide) -> Pixels:
        return slide.read(Box(0, 0, slide.height, slide.width))

    def test_the_format_finds_its_reader(self, slide: Slide) -> None:
        assert type(slide) is self.reader

    def test_the_whole_is_what_was_written(self, slide: Slide, whole: Pixels, kind: Kind) -> None:
        assert (slide.height, slide.width) == kind.shows.shape[:2]
        assert differ(whole, kind.shows) <= kind.tolerance

    @settings(max_examples=15, suppress_health_check=[HealthCheck.differing_executors], deadline=None)
    @given(data=st.data())
    def test_a_region_is_the_crop_of_the_whole(self, slide: Slide, whole: Pixels, data: st.DataObject) -> None:
        box = data.draw(boxes(slide))
        region = slide.read(box)
        np.testing.assert_array_equal(region, whole[box.slices()])
        assert region.shape == (box.height, box.width, 3)
        assert region.dtype == np.uint8
        assert region.flags.c_contiguous

    @settings(max_examples=10, suppress_health_check=[HealthCheck.differing_executors], deadline=None)
    @given(data=st.data())
    def test_a_region_of_any_level_is_the_crop_of_that_level(self, slide: Slide, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(slide.levels) - 1))
        level = slide.levels[index]
        box = data.draw(boxes_within(level.height, level.width))
        whole = slide.read(Box(0, 0, level.height, level.width), index)
        np.testing.assert_array_equal(slide.read(box, index), whole[box.slices()])

    @settings(max_examples=5, suppress_health_check=[HealthCheck.differing_executors], deadline=None)
    @given(data=st.data())
    def test_beyond_the_border_it_is_mirrored(self, slide: Slide, whole: Pixels, data: st.DataObject) -> None:
        around = st.integers(-WIDTH, 2 * WIDTH)
        top, left = data.draw(around), data.draw(around)
        box = Box(top, left, top + data.draw(st.integers(1, 99)), left + data.draw(st.integers(1, 99)))
        seen = mirror_read(slide.read, box, height=slide.height, width=slide.width)
        np.testing.assert_array_equal(seen, read_mirrored(whole, box))

    def test_its_channels_have_names_and_are_those_that_were_written(self, slide: Slide, kind: Kind) -> None:
        assert (slide.channels, slide.dtype) == (kind.channels, kind.dtype)
        every = slide.read_channels(Box(0, 0, slide.height, slide.width))
        assert every.dtype == np.uint8
        assert every.shape[2] == len(kind.channels)
        assert differ(every, kind.shown) <= kind.tolerance

    def test_a_region_of_its_channels_is_the_crop_of_them(self, slide: Slide) -> None:
        every = slide.read_channels(Box(0, 0, slide.height, slide.width))
        box = Box(33, 58, 201, 300)
        np.testing.assert_array_equal(slide.read_channels(box), every[box.slices()])

    @pytest.fixture(scope="class")
    @classmethod
    def samples(cls, slide: Slide) -> Samples:
        return slide.read_samples(Box(0, 0, slide.height, slide.width))

    def test_its_samples_are_the_numbers_that_were_written(self, samples: Samples, kind: Kind) -> None:
        assert samples.dtype == np.dtype(kind.dtype)  # of the machine's order of bytes
        if kind.samples is not None:
            np.testing.assert_array_equal(samples, kind.samples)
        else:
            assert differ(samples, kind.shown) <= kind.tolerance

    def test_its_samples_through_their_windows_are_its_channels(self, slide: Slide, samples: Samples) -> None:
        every = slide.read_channels(Box(0, 0, slide.height, slide.width))
        windows = slide.window if isinstance(slide.window, tuple) else (slide.window,) * len(slide.channels)
        for channel, window in enumerate(windows):
            plane = samples[:, :, channel]
            np.testing.assert_array_equal(plane if window is None else window.apply(plane), every[:, :, channel])

    @settings(max_examples=10, suppress_health_check=[HealthCheck.differing_executors], deadline=None)
    @given(data=st.data())
    def test_a_region_of_its_samples_is_the_crop_of_them(
        self, slide: Slide, samples: Samples, data: st.DataObject
    ) -> None:
        box = data.draw(boxes(slide))
        region = slide.read_samples(box)
        np.testing.assert_array_equal(region, samples[box.slices()])
        assert region.shape == (box.height, box.width, len(slide.channels))
        assert region.dtype == samples.dtype
        assert region.flags.c_contiguous

    def test_what_a_caller_does_to_its_samples_stays_with_it(self, slide: Slide, samples: Samples) -> None:
        box = Box(0, 0, slide.height, slide.width)
        slide.read_samples(box)[:] = 1
        np.testing.assert_array_equal(slide.read_samples(box), samples)

    def test_a_level_that_is_not_there_is_refused(self, slide: Slide) -> None:
        for level in (-1, len(slide.levels)):
            with pytest.raises(ValueError, match="there is no level"):
                slide.read(Box(0, 0, 1, 1), level)

    def test_what_a_caller_does_to_a_region_stays_with_it(self, slide: Slide, whole: Pixels) -> None:
        box = Box(0, 0, slide.height, slide.width)
        slide.read(box)[:] = 7
        np.testing.assert_array_equal(slide.read(box), whole)

    @pytest.mark.parametrize(
        "box", [Box(-1, 0, 5, 5), Box(0, -1, 5, 5), Box(0, 0, HEIGHT + 1, 5), Box(0, 9, 9, WIDTH + 1)]
    )
    def test_a_box_that_leaves_the_image_is_refused(self, slide: Slide, box: Box) -> None:
        for read in (slide.read, slide.read_channels, slide.read_samples):
            with pytest.raises(ValueError, match="leaves the image"):
                read(box)

    @pytest.mark.parametrize("side", [1, 40, 100, 200, 417, 5000])
    def test_an_overview_fits_its_side_and_looks_like_the_image(self, slide: Slide, whole: Pixels, side: int) -> None:
        overview = slide.overview(side)
        height, width = overview.shape[:2]
        assert overview.dtype == np.uint8
        assert min(side, WIDTH) / 2 - 1 <= max(height, width) <= min(side, WIDTH)
        shrunk = np.asarray(Image.fromarray(whole).resize((width, height), Image.Resampling.BOX))
        assert differ(overview, shrunk) < 4

    def test_threads_that_read_at_once_get_what_one_gets(self, slide: Slide, whole: Pixels) -> None:
        places = [Box(top, left, top + 90, left + 120) for top in range(0, 200, 20) for left in range(0, 280, 40)]
        with ThreadPoolExecutor(8) as threads:
            regions = list(threads.map(slide.read, places))
        for place, region in zip(places, regions, strict=True):
            np.testing.assert_array_equal(region, whole[place.slices()])

    def test_the_scale_is_known_where_the_file_says_it(self, slide: Slide, kind: Kind) -> None:
        assert slide.mpp == (pytest.approx(kind.mpp) if kind.mpp else None)

    def test_a_slide_opened_with_the_window_of_an_earlier_time_looks_the_same(
        self, slide: Slide, whole: Pixels, path: Path
    ) -> None:
        with self.open(path, slide.window) as again:
            assert again.window == slide.window
            np.testing.assert_array_equal(again.read(Box(0, 0, HEIGHT, WIDTH)), whole)

    def test_nothing_stays_open_once_it_is_closed(self, path: Path) -> None:
        copy = path.with_name("copy" + path.suffix)
        copy.write_bytes(path.read_bytes())
        slide = self.open(copy)
        slide.overview(10)
        slide.close()
        slide.close()
        assert copy not in open_files()

    def test_nothing_stays_open_once_it_is_dropped(self, path: Path) -> None:
        """Nor is it left to the collector, which comes when it likes."""
        self.open(path).overview(10)
        before = len(open_files())
        self.open(path).overview(10)
        assert len(open_files()) == before


def boxes(slide: Slide) -> st.SearchStrategy[Box]:
    return boxes_within(slide.height, slide.width)


def boxes_within(height: int, width: int) -> st.SearchStrategy[Box]:
    def span(size: int) -> st.SearchStrategy[tuple[int, int]]:
        return st.tuples(st.integers(0, size), st.integers(0, size)).filter(lambda ends: ends[0] < ends[1])

    spans = st.tuples(span(height), span(width))
    return spans.map(lambda both: Box(both[0][0], both[1][0], both[0][1], both[1][1]))


def differ(left: Samples, right: Samples) -> float:
    """Mean absolute difference."""
    return float(np.abs(left.astype(int) - right.astype(int)).mean())


def open_files() -> list[Path]:
    descriptors = Path("/proc/self/fd")
    return [link.readlink() for link in descriptors.iterdir() if link.is_symlink()]
