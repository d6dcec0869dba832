"""Readers of PNG, JPEG and TIFF keep the promises of readers, from disk and by ranges."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from shared.imaging.normalisation import Samples
from shared.imaging.tiling import Box, Pixels
from shared.slides import Limits, RangedSource, Slide, Windows, open_slide
from shared.slides.openslide import OpenSlideSlide
from shared.slides.raster import RasterSlide
from shared.slides.slide import GREY, RGB
from shared.slides.tiff import TiffSlide
from tests.contracts.slide_promises import (
    HEIGHT,
    METRIC,
    WIDTH,
    Kind,
    SlidePromises,
    deep,
    grey,
    kinds,
    repeated,
    scene,
)


def png(path: Path) -> None:
    Image.fromarray(scene()).save(path)


def jpeg(path: Path) -> None:
    Image.fromarray(scene()).save(path, quality=95)


def deep_png(samples: np.ndarray) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(samples)))


def with_alpha(samples: Samples) -> Samples:
    """The same with another channel, that says it is opaque."""
    opaque = np.full((*samples.shape[:2], 1), np.iinfo(samples.dtype).max, dtype=samples.dtype)
    return np.concatenate([samples, opaque], axis=2)


def deep_of(samples: Samples, channels: tuple[str, ...] = RGB) -> dict[str, Any]:
    """What is to be found where these samples were written."""
    return {"samples": samples, "channels": channels, "dtype": samples.dtype.name}


def turned_jpeg(path: Path) -> None:
    """As a camera held upright stores it: turned, and EXIF says how."""
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored rows are the shown columns, from right to left
    Image.fromarray(scene()).rotate(90, expand=True).save(path, quality=95, exif=exif)


class TestRaster(SlidePromises):
    reader = RasterSlide

    @pytest.fixture(
        scope="class",
        params=kinds(
            Kind("rgb.png", png, scene()),
            Kind("grey.png", lambda path: Image.fromarray(grey()).save(path), repeated(grey()), channels=GREY),
            Kind("grey16.png", deep_png(deep()[:, :, 0]), repeated(grey()), **deep_of(deep()[:, :, :1], GREY)),
            Kind("rgb16.png", deep_png(deep()), scene(), **deep_of(deep())),
            Kind("rgba16.png", deep_png(with_alpha(deep())), scene(), **deep_of(deep())),
            Kind("rgb.jpg", jpeg, scene(), tolerance=4),
            Kind("turned.jpg", turned_jpeg, scene(), tolerance=4),
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


def ome(path: Path) -> None:
    """Four stains of their own brightness, each a page, with a level of half the size below it."""
    names = {"Channel": {"Name": list(STAINS)}}
    about = {"axes": "CYX", **names, "PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 500}
    small = np.stack([np.asarray(Image.fromarray(stain).reduce(2)) for stain in stains()])
    bright = np.array(BRIGHTNESS, dtype=np.uint16)[:, None, None]
    with tifffile.TiffWriter(path, ome=True) as file:
        options = {"tile": (64, 64), "compression": "zstd", "photometric": "minisblack"}
        file.write(stains() * bright, subifds=1, metadata=about, **options)  # type: ignore[arg-type]
        file.write(small * bright, subfiletype=1, **options)  # type: ignore[arg-type]


def oriented(tag: int, stored: np.ndarray) -> Callable[[Path], object]:
    return tiff(stored.copy(), tile=(64, 80), **COLOUR, extratags=[(274, "H", 1, tag, True)])


def fax(path: Path) -> None:
    """The two patches in black and white, as Pillow (libtiff) packs them."""
    Image.fromarray(patches()).save(path, compression="group4")


def patches() -> NDArray[np.bool_]:
    return np.equal(grey(), 255)


def aperio(compression: str = "jpeg", tag: int | None = None) -> Callable[[Path], object]:
    """Three images in the order a scanner writes them: the slide, its thumbnail (in strips), a smaller level.

    `tag`: the number that Aperio has for the compression, if it is its own.
    """
    maker = "Aperio Image Library v11.2.1 \n"
    quarter = np.asarray(Image.fromarray(scene()).reduce(4))
    small, size = f"{quarter.shape[1]}x{quarter.shape[0]}", f"{WIDTH}x{HEIGHT}"
    options: dict[str, Any] = {"photometric": "rgb", "metadata": None}

    def write(path: Path) -> None:
        tiled = {"tile": (128, 128), "compression": compression, **options}
        with tifffile.TiffWriter(path) as file:
            about = f"{maker}{size} [0,0 {size}] (128x128) JPEG/RGB Q=80|AppMag = 20|MPP = 0.4990"
            file.write(scene(), description=about, **tiled)
            about = f"{maker}{size} -> {small}"
            file.write(quarter, rowsperstrip=16, description=about, compression="jpeg", **options)
            about = f"{maker}{size} [0,0 {size}] (128x128) -> {small} JPEG/RGB Q=80"
            file.write(quarter, description=about, **tiled)

    return write if tag is None else retagged(write, tag)


def retagged(write: Callable[[Path], object], compression: int) -> Callable[[Path], object]:
    """What the writer of TIFFs makes of tiles, by another name."""

    def write_and_retag(path: Path) -> None:
        write(path)
        with tifffile.TiffFile(path, mode="r+") as file:
            for index in (0, 2):
                page: Any = file.pages[index]
                page.tags["Compression"].overwrite(compression)

    return write_and_retag


STAINS, BRIGHTNESS = ("DAPI", "CD3", "CD8", "CD20"), (1, 7, 30, 200)


def stains() -> Pixels:
    """(4, H, W): each from 0 to 255."""
    return np.stack([grey(), grey()[::-1], grey()[:, ::-1], 255 - grey()])


COLOUR = {"photometric": "rgb"}
STACKED = scene().transpose(2, 0, 1).copy()
SMOOTH = {"tile": (128, 128), "photometric": "rgb"}


def grey_tiff(samples: Samples, **options: object) -> Kind:
    """`samples`: (H, W), between which the scene's grey values lie."""
    name = f"{samples.dtype}.tif"
    return Kind(name, tiff(samples, **options), repeated(grey()), **deep_of(samples[:, :, None], GREY))


def stained_tiff(name: str, samples: Samples, **options: object) -> Kind:
    """`samples`: (4, H, W) of the stains, each plane by itself in the file."""
    shown = stains().transpose(1, 2, 0)
    about = deep_of(samples.transpose(1, 2, 0), tuple(f"channel {number}" for number in range(1, 5)))
    planes = {"photometric": "minisblack", "planarconfig": "separate", **options}
    return Kind(name, tiff(samples, **planes), shown[:, :, :3], each=shown, **about)


class TestTiff(SlidePromises):
    reader = TiffSlide

    @pytest.fixture(
        scope="class",
        params=kinds(
            Kind("raw.tif", tiff(scene(), **COLOUR, **METRIC), scene(), mpp=0.5),
            Kind("raw-strips.tif", tiff(scene(), rowsperstrip=16, **COLOUR), scene()),
            Kind("raw-tiles.tif", tiff(scene(), tile=(64, 80), **COLOUR), scene()),
            Kind("lzw-strips.tif", tiff(scene(), rowsperstrip=7, compression="lzw", predictor=True, **COLOUR), scene()),
            Kind("deflate-tiles.tif", tiff(scene(), compression="zlib", **SMOOTH), scene()),
            Kind("packbits.tif", tiff(scene(), rowsperstrip=9, compression="packbits", **COLOUR), scene()),
            Kind("lzma.tif", tiff(scene(), compression="lzma", **SMOOTH), scene()),
            Kind("zstd.tif", tiff(scene(), compression="zstd", predictor=True, **SMOOTH), scene()),
            Kind("webp.tif", tiff(scene(), compression="webp", compressionargs={"lossless": True}, **SMOOTH), scene()),
            Kind("jpeg-tiles.tif", tiff(scene(), compression="jpeg", **SMOOTH), scene(), tolerance=4),
            Kind("jpeg-444.tif", tiff(scene(), compression="jpeg", subsampling=(1, 1), **SMOOTH), scene(), tolerance=4),
            Kind("jpeg2000.tif", tiff(scene(), compression="jpeg2000", **SMOOTH), scene()),
            Kind("fax.tif", fax, repeated(patches() * np.uint8(255)), **deep_of(patches()[:, :, None], GREY)),
            Kind(
                "big-endian.tif",
                tiff(grey() * np.uint16(256), byteorder=">", bigtiff=True),
                repeated(grey()),
                1,
                **deep_of(grey()[:, :, None] * np.uint16(256), GREY),
            ),
            Kind("pyramid.tif", pyramid, scene(), tolerance=4, mpp=0.5),
            Kind("planar.tif", tiff(STACKED, planarconfig="separate", tile=(64, 64), **COLOUR), scene()),
            Kind("raw-planar.tif", tiff(STACKED, planarconfig="separate", **COLOUR), scene()),
            Kind("upside-down.tif", oriented(4, scene()[::-1]), scene()),
            Kind("on-its-side.tif", oriented(6, np.rot90(scene())), scene()),
            Kind(
                "imagej.tif",
                tiff(STACKED, imagej=True, metadata={"axes": "CYX", "unit": "um"}, resolution=(2, 2)),
                scene(),
                mpp=0.5,
                channels=("channel 1", "channel 2", "channel 3"),
            ),
            Kind(
                "two.tif",
                tiff(STACKED[:2], imagej=True, metadata={"axes": "CYX", "Labels": ["nuclei", "membranes"]}),
                scene() * np.array([1, 1, 0], dtype=np.uint8),
                channels=("nuclei", "membranes"),
            ),
            Kind(
                "stains.ome.tif",
                ome,
                stains()[:3].transpose(1, 2, 0),
                tolerance=1,
                mpp=0.5,
                each=stains().transpose(1, 2, 0),
                **deep_of(stains().transpose(1, 2, 0) * np.array(BRIGHTNESS, dtype=np.uint16), STAINS),
            ),
            grey_tiff(grey().astype(np.uint16) * 9 + 100, rowsperstrip=50),
            grey_tiff(grey().astype(np.uint32) * 90_000, compression="lzw", rowsperstrip=50),
            grey_tiff(grey().astype(np.int16) * 9 - 300, tile=(64, 64)),
            grey_tiff(grey().astype(np.float16), tile=(64, 64)),
            grey_tiff(grey().astype(np.float32) / 7 - 3, tile=(64, 64), compression="zlib", predictor=True),
            Kind("rgb16.tif", tiff(deep(), compression="zlib", **SMOOTH), scene(), **deep_of(deep())),
            Kind(
                "rgba16.tif",
                tiff(with_alpha(deep()), extrasamples=["unassalpha"], **COLOUR),
                scene(),
                **deep_of(deep()),
            ),
            Kind("turned16.tif", oriented(6, np.rot90(deep())), scene(), **deep_of(deep())),
            stained_tiff("signed.tif", stains().astype(np.int16) * 9 - 300, byteorder=">"),
            stained_tiff("real.tif", stains().astype(np.float32) / 7 - 3, tile=(64, 64), compression="zlib"),
            stained_tiff("double.tif", stains().astype(np.float64) / 7 - 3, byteorder=">", rowsperstrip=20),
            Kind("aperio.svs", aperio(), scene(), tolerance=4, mpp=0.499),
            Kind("aperio2000.svs", aperio("jpeg2000", 33005), scene(), mpp=0.499),
        ),
    )
    @classmethod
    def kind(cls, request: pytest.FixtureRequest) -> Kind:
        kind: Kind = request.param
        return kind


class TestTiffByRanges(TestTiff):
    """The same files, of which nothing lies on a disk."""

    @classmethod
    def open(cls, path: Path, window: Windows | None = None) -> Slide:
        content = path.read_bytes()
        source = RangedSource(lambda offset, count: content[offset : offset + count], len(content))
        return open_slide(source, window=window)


class TestAperio:
    """Aperio's slides are read here, not by OpenSlide, so that they can be read by ranges; the pixels are the same."""

    @pytest.mark.parametrize("kind", ["jpeg", "jpeg2000"])
    def test_the_pixels_are_those_that_openslide_shows(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "a.svs"
        aperio(kind, 33005 if kind == "jpeg2000" else None)(path)
        with open_slide(path) as ours, OpenSlideSlide(path, name="a", vendor="aperio", limits=Limits()) as theirs:
            assert ours.format == theirs.format
            assert ours.levels[1:] == theirs.levels[1:]
            for index, level in enumerate(ours.levels):
                box = Box(0, 0, level.height, level.width)
                np.testing.assert_array_equal(ours.read(box, index), theirs.read(box, index))
