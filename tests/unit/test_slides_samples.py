"""Samples are the file's own numbers, for measuring: nothing of what is done to show them has happened to them."""

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from shared.errors import Rejected
from shared.imaging.normalisation import Samples, Window
from shared.imaging.tiling import Box
from shared.slides import HeldSlide, RangedSource, Slide, open_slide
from tests.dicom_files import Written, write_dicom
from tests.slide_files import NOISE, RAMP, png, saved, tiff
from tests.zarr_images import write_ome_zarr

REAL = (RAMP / 7 - 3).astype(np.float32)
HALF_CLEAR = np.where(np.arange(200)[:, None, None] < 100, 255, 0).repeat(150, axis=1).astype(np.uint8)
NEGATIVE = {"PhotometricInterpretation": "MONOCHROME1"}


def samples_of(path: Path, window: Window | None = None) -> Samples:
    with open_slide(path, window=window) as slide:
        return all_samples(slide)


def all_samples(slide: Slide) -> Samples:
    return slide.read_samples(Box(0, 0, slide.height, slide.width))


def grey_png(path: Path) -> Path:
    return png(path, RAMP)


def grey_tiff(path: Path) -> Path:
    return tiff(path, RAMP)


def grey_zarr(path: Path) -> Path:
    return write_ome_zarr(path, RAMP[None])


def grey_dicom(path: Path) -> Path:
    return write_dicom(path, RAMP[None])


@pytest.mark.parametrize("write", [grey_png, grey_tiff, grey_zarr, grey_dicom])
class TestWindows:
    def test_what_lies_outside_the_window_is_not_clipped(self, tmp_path: Path, write: Callable[[Path], Path]) -> None:
        path = write(tmp_path / "a")
        np.testing.assert_array_equal(samples_of(path, Window(300.0, 310.0))[:, :, 0], RAMP)

    def test_a_window_that_was_found_clips_nothing_either(self, tmp_path: Path, write: Callable[[Path], Path]) -> None:
        """The brightest thousandth counts for a mean as everything else does."""
        np.testing.assert_array_equal(samples_of(write(tmp_path / "a"))[:, :, 0], RAMP)


class TestStoredOtherwiseThanShown:
    @pytest.mark.parametrize("stored", [NOISE[:, :, :1], RAMP[:, :, None]], ids=["8 bits", "16 bits"])
    def test_where_a_tiff_says_that_zero_is_white_it_is_zero(self, tmp_path: Path, stored: Samples) -> None:
        path = tiff(tmp_path / "a.tif", stored[:, :, 0], photometric="miniswhite")
        np.testing.assert_array_equal(samples_of(path), stored)

    @pytest.mark.parametrize("stored", [NOISE[:, :, :1], RAMP[:, :, None]], ids=["8 bits", "16 bits"])
    def test_a_negative_in_dicom_stays_one(self, tmp_path: Path, stored: Samples) -> None:
        path = write_dicom(tmp_path / "a.dcm", stored.transpose(2, 0, 1).copy(), Written(values=NEGATIVE))
        np.testing.assert_array_equal(samples_of(path), stored)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("count", [1, 3])
    def test_what_is_transparent_in_a_png_has_its_colours(self, tmp_path: Path, dtype: type, count: int) -> None:
        clear = np.concatenate([NOISE[:, :, :count], HALF_CLEAR], axis=2).astype(dtype) * dtype(3)
        np.testing.assert_array_equal(samples_of(png(tmp_path / "a.png", clear)), clear[:, :, :count])

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_what_is_transparent_in_a_tiff_has_its_colours(self, tmp_path: Path, dtype: type) -> None:
        clear = np.concatenate([NOISE, HALF_CLEAR], axis=2).astype(dtype) * dtype(3)
        path = tiff(tmp_path / "a.tif", clear, photometric="rgb", extrasamples=["unassalpha"])
        np.testing.assert_array_equal(samples_of(path), clear[:, :, :3])

    def test_few_bits_are_not_spread(self, tmp_path: Path) -> None:
        path = tiff(tmp_path / "a.tif", NOISE[:, :, 0] > 99, photometric="minisblack")
        np.testing.assert_array_equal(samples_of(path)[:, :, 0], NOISE[:, :, 0] > 99)

    def test_what_is_no_number_stays_none(self, tmp_path: Path) -> None:
        strange = REAL.copy()
        strange[5, :3] = np.nan, np.inf, -np.inf
        for compression in (None, "zlib"):
            path = tiff(tmp_path / "a.tif", strange, compression=compression)
            np.testing.assert_array_equal(samples_of(path)[:, :, 0], strange)


class TestPalettes:
    def test_of_a_tiff_the_colours_are_given(self, tmp_path: Path) -> None:
        colours = np.random.default_rng(2).integers(0, 2**16, (3, 256), dtype=np.uint16)
        path = tiff(tmp_path / "a.tif", NOISE[:, :, 0], photometric="palette", colormap=colours)
        np.testing.assert_array_equal(samples_of(path), (colours >> 8).astype(np.uint8).T[NOISE[:, :, 0]])

    def test_of_a_png_the_colours_are_given(self, tmp_path: Path) -> None:
        indexed = Image.fromarray(NOISE).quantize(60)
        found = samples_of(saved(tmp_path / "a.png", indexed))
        np.testing.assert_array_equal(found, np.asarray(indexed.convert("RGB")))


class TestElsewhereThanInAFile:
    def test_of_a_tiff_by_ranges_no_more_than_a_region_is_fetched(self) -> None:
        pages = np.stack([RAMP.repeat(8, axis=0).repeat(8, axis=1)] * 4)  # 4 × 1600 × 1200
        content = as_bytes(pages)
        source = RangedSource(lambda offset, count: content[offset : offset + count], len(content))
        with open_slide(source, window=Window(0.0, 1.0)) as slide:
            found = slide.read_samples(Box(800, 600, 810, 620))
        np.testing.assert_array_equal(found, pages[:, 800:810, 600:620].transpose(1, 2, 0))
        assert source.bytes_fetched < 0.3 * len(content)

    def test_an_image_that_was_just_made_has_the_samples_it_was_made_of(self) -> None:
        np.testing.assert_array_equal(all_samples(HeldSlide(NOISE[:, :, :1], format="png")), NOISE[:, :, :1])
        np.testing.assert_array_equal(all_samples(HeldSlide(NOISE, format="png")), NOISE)


def as_bytes(pages: Samples) -> bytes:
    """A TIFF of these stains (C, H, W), uncompressed tiles."""
    file = io.BytesIO()
    tifffile.imwrite(file, pages, photometric="minisblack", planarconfig="separate", tile=(128, 128))
    return file.getvalue()


def spoil(path: Path) -> None:
    """Zeros instead of the second half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))


class TestDamage:
    def test_of_a_tiff_is_refused(self, tmp_path: Path) -> None:
        path = tiff(tmp_path / "a.tif", REAL, compression="zlib", rowsperstrip=200)
        with open_slide(path) as slide:
            spoil(path)
            with pytest.raises(Rejected, match=r"a\.tif: the TIFF is damaged"):
                all_samples(slide)

    def test_of_an_ome_zarr_is_refused(self, tmp_path: Path) -> None:
        path = write_ome_zarr(tmp_path / "a.ome.zarr", REAL[None], axes="cyx")
        with open_slide(path) as slide:
            spoil(path / "0" / "0.0.0")
            with pytest.raises(Rejected, match=r"a\.ome\.zarr: the OME-Zarr is damaged"):
                all_samples(slide)

    def test_of_a_dicom_slide_is_refused(self, tmp_path: Path) -> None:
        path = write_dicom(tmp_path / "a.dcm", NOISE, Written("jpeg-2000", tile=(200, 150)))
        with open_slide(path) as slide:
            spoil(path)
            with pytest.raises(Rejected, match=r"a\.dcm: the DICOM file is damaged"):
                all_samples(slide)


class TestMemoryOfAPng:
    SIDE = 1000

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Colours of 16 bits, half of it transparent: eight bytes per pixel."""
        clear = np.zeros((self.SIDE, self.SIDE, 4), dtype=np.uint16)
        clear[:, :, 0] = np.arange(self.SIDE)
        clear[self.SIDE // 2 :, :, 3] = 65535
        return png(tmp_path / "a.png", clear)

    def test_its_samples_are_held_and_nothing_else(self, path: Path) -> None:
        tracemalloc.start()
        with open_slide(path):
            held = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
        assert held < 8.1 * self.SIDE**2

    def test_what_is_read_takes_little_beside_itself(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shared.slides.slide.PIECE", 2**14)
        with open_slide(path) as slide:
            tracemalloc.start()
            slide.read(Box(0, 0, self.SIDE, self.SIDE))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 3 * self.SIDE**2 + 2_000_000
