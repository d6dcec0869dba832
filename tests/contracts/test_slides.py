"""What every reader of images promises, whatever the format on disk."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.imaging.tiling import Box, Pixels
from shared.slides import Slide, open_slide
from shared.slides.openslide import OpenSlideSlide
from shared.slides.raster import RasterSlide
from shared.slides.tiff import TiffSlide

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


def repeated(pixels: Pixels) -> Pixels:
    return pixels[:, :, None].repeat(3, axis=2)


@dataclass(frozen=True)
class Kind:
    """A way to write the scene. `shows`: the pixels that a reader should find, within `tolerance` on the average."""

    name: str
    write: Callable[[Path], object]
    shows: Pixels
    tolerance: float = 0.0
    mpp: float | None = None


def kinds(*all_kinds: Kind) -> list[object]:
    return [pytest.param(kind, id=kind.name) for kind in all_kinds]


class SlidePromises:
    reader: type[Slide]

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
        with open_slide(path) as slide:
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

    @settings(max_examples=25, suppress_health_check=[HealthCheck.differing_executors], deadline=None)
    @given(data=st.data())
    def test_a_region_is_the_crop_of_the_whole(self, slide: Slide, whole: Pixels, data: st.DataObject) -> None:
        box = data.draw(boxes(slide))
        region = slide.read(box)
        np.testing.assert_array_equal(region, whole[box.slices()])
        assert region.shape == (box.height, box.width, 3)
        assert region.dtype == np.uint8
        assert region.flags.c_contiguous

    def test_what_a_caller_does_to_a_region_stays_with_it(self, slide: Slide, whole: Pixels) -> None:
        box = Box(0, 0, slide.height, slide.width)
        slide.read(box)[:] = 7
        np.testing.assert_array_equal(slide.read(box), whole)

    @pytest.mark.parametrize(
        "box", [Box(-1, 0, 5, 5), Box(0, -1, 5, 5), Box(0, 0, HEIGHT + 1, 5), Box(0, 9, 9, WIDTH + 1)]
    )
    def test_a_box_that_leaves_the_image_is_refused(self, slide: Slide, box: Box) -> None:
        with pytest.raises(ValueError, match="leaves the image"):
            slide.read(box)

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
        with open_slide(path, window=slide.window) as again:
            assert again.window == slide.window
            np.testing.assert_array_equal(again.read(Box(0, 0, HEIGHT, WIDTH)), whole)

    def test_nothing_stays_open_once_it_is_closed(self, path: Path) -> None:
        copy = path.with_name("copy" + path.suffix)
        copy.write_bytes(path.read_bytes())
        slide = open_slide(copy)
        slide.overview(10)
        slide.close()
        slide.close()
        assert copy not in open_files()


def boxes(slide: Slide) -> st.SearchStrategy[Box]:
    def span(size: int) -> st.SearchStrategy[tuple[int, int]]:
        return st.tuples(st.integers(0, size), st.integers(0, size)).filter(lambda ends: ends[0] < ends[1])

    spans = st.tuples(span(slide.height), span(slide.width))
    return spans.map(lambda both: Box(both[0][0], both[1][0], both[0][1], both[1][1]))


def differ(left: Pixels, right: Pixels) -> float:
    """Mean absolute difference."""
    return float(np.abs(left.astype(int) - right.astype(int)).mean())


def open_files() -> list[Path]:
    descriptors = Path("/proc/self/fd")
    return [link.readlink() for link in descriptors.iterdir() if link.is_symlink()]


def png(path: Path) -> None:
    Image.fromarray(scene()).save(path)


def jpeg(path: Path) -> None:
    Image.fromarray(scene()).save(path, quality=95)


def deep_png(path: Path) -> None:
    Image.fromarray(grey().astype(np.uint16) * 9 + 100).save(path)


class TestRaster(SlidePromises):
    reader = RasterSlide

    @pytest.fixture(
        scope="class",
        params=kinds(
            Kind("rgb.png", png, scene()),
            Kind("grey16.png", deep_png, repeated(grey())),
            Kind("rgb.jpg", jpeg, scene(), tolerance=4),
        ),
    )
    @classmethod
    def kind(cls, request: pytest.FixtureRequest) -> Kind:
        kind: Kind = request.param
        return kind


def tiff(pixels: np.ndarray, **options: object) -> Callable[[Path], object]:
    return lambda path: tifffile.imwrite(path, pixels, **options)  # type: ignore[arg-type]


def pyramid(path: Path) -> None:
    options = {"tile": (64, 64), "compression": "jpeg", "photometric": "rgb"}
    with tifffile.TiffWriter(path) as file:
        file.write(scene(), subifds=2, **options, **METRIC)  # type: ignore[arg-type]
        for factor in (2, 4):
            smaller = np.asarray(Image.fromarray(scene()).reduce(factor))
            file.write(smaller, subfiletype=1, **options)  # type: ignore[arg-type]


RGB = {"photometric": "rgb"}
STACKED = scene().transpose(2, 0, 1).copy()


class TestTiff(SlidePromises):
    reader = TiffSlide

    @pytest.fixture(
        scope="class",
        params=kinds(
            Kind("raw.tif", tiff(scene(), **RGB, **METRIC), scene(), mpp=0.5),
            Kind("raw-strips.tif", tiff(scene(), rowsperstrip=16, **RGB), scene()),
            Kind("raw-tiles.tif", tiff(scene(), tile=(64, 80), **RGB), scene()),
            Kind("lzw-strips.tif", tiff(scene(), rowsperstrip=7, compression="lzw", predictor=True, **RGB), scene()),
            Kind("deflate-tiles.tif", tiff(scene(), tile=(128, 128), compression="zlib", **RGB), scene()),
            Kind("jpeg-tiles.tif", tiff(scene(), tile=(128, 128), compression="jpeg", **RGB), scene(), tolerance=4),
            Kind("big-endian.tif", tiff(grey() * np.uint16(256), byteorder=">", bigtiff=True), repeated(grey()), 1),
            Kind("pyramid.tif", pyramid, scene(), tolerance=4, mpp=0.5),
            Kind("planar.tif", tiff(STACKED, planarconfig="separate", tile=(64, 64), **RGB), scene()),
            Kind(
                "imagej.tif",
                tiff(STACKED, imagej=True, metadata={"axes": "CYX", "unit": "um"}, resolution=(2, 2)),
                scene(),
                mpp=0.5,
            ),
            Kind("uint16.tif", tiff(grey().astype(np.uint16) * 9 + 100, rowsperstrip=50), repeated(grey())),
            Kind("float32.tif", tiff(grey().astype(np.float32) / 7 - 3, tile=(64, 64)), repeated(grey())),
        ),
    )
    @classmethod
    def kind(cls, request: pytest.FixtureRequest) -> Kind:
        kind: Kind = request.param
        return kind


def aperio(path: Path) -> None:
    """Three images in the order a scanner writes them: the slide, its thumbnail (in strips), a smaller level."""
    maker, options = "Aperio Image Library v11.2.1 \n", {"compression": "jpeg", "photometric": "rgb", "metadata": None}
    quarter = np.asarray(Image.fromarray(scene()).reduce(4))
    small = f"{quarter.shape[1]}x{quarter.shape[0]}"
    size = f"{WIDTH}x{HEIGHT}"
    with tifffile.TiffWriter(path) as file:
        about = f"{maker}{size} [0,0 {size}] (128x128) JPEG/RGB Q=80|AppMag = 20|MPP = 0.4990"
        file.write(scene(), tile=(128, 128), description=about, **options)  # type: ignore[arg-type]
        file.write(quarter, rowsperstrip=16, description=f"{maker}{size} -> {small}", **options)  # type: ignore[arg-type]
        about = f"{maker}{size} [0,0 {size}] (128x128) -> {small} JPEG/RGB Q=80"
        file.write(quarter, tile=(128, 128), description=about, **options)  # type: ignore[arg-type]


class TestOpenSlide(SlidePromises):
    reader = OpenSlideSlide

    @pytest.fixture(scope="class", params=kinds(Kind("aperio.svs", aperio, scene(), tolerance=4, mpp=0.499)))
    @classmethod
    def kind(cls, request: pytest.FixtureRequest) -> Kind:
        kind: Kind = request.param
        return kind

    def test_it_is_an_aperio_slide_of_two_levels(self, slide: Slide) -> None:
        assert slide.format == "aperio"
        assert len(slide.levels) == 2
