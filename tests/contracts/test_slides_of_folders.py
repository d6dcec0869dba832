"""What every reader promises, of the formats that are folders of files, and of the scanners' own."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from shared.imaging.tiling import Pixels
from shared.slides import Slide
from shared.slides.dicom import DicomSlide
from shared.slides.openslide import OpenSlideSlide
from shared.slides.slide import RGB
from shared.slides.zarr import ZarrSlide
from tests import vendor_slides
from tests.contracts.slide_promises import Kind, SlidePromises, deep, grey, kinds, open_files, repeated, scene
from tests.dicom_files import Written, write_dicom
from tests.zarr_images import write_ome_zarr, zipped

PLANES = scene().transpose(2, 0, 1).copy()


class PartsPromises(SlidePromises):
    """Of images that may be folders."""

    def test_nothing_stays_open_once_it_is_closed(self, path: Path) -> None:
        copy = path.with_name("copy" + path.suffix)
        shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
        slide = self.open(copy)
        slide.overview(10)
        slide.close()
        slide.close()
        assert not [file for file in open_files() if file.is_relative_to(copy)]


def ome_zarr(samples: np.ndarray, **options: object) -> Callable[[Path], object]:
    return lambda path: write_ome_zarr(path, samples, **options)  # type: ignore[arg-type]


def in_a_zip(path: Path) -> None:
    zipped(write_ome_zarr(path.with_name("source"), PLANES), path, top="a.ome.zarr/")


THREE = (1, 2, 4)
GREY = ("grey",)
V5: dict[str, Any] = {"version": "0.5"}
SHARDS = (1, 1, 1, 128, 160)
SLASHES = {"name": "v2", "separator": "/"}
ZSTD, BLOSC = [ZstdCodec()], [BloscCodec()]
SHADES = repeated(grey())
DEEP = grey()[None].astype(np.uint16) * 9 + 100
REAL = PLANES.astype(np.float32) / 7 - 3
SIGNED = PLANES[:2].astype(np.int16) * 9 - 300
TWO = scene() * np.array([1, 1, 0], dtype=np.uint8)


def written(samples: np.ndarray, *channels: str) -> dict[str, Any]:
    """What is to be found where these samples (C, H, W) were written."""
    return {"samples": samples.transpose(1, 2, 0), "channels": channels, "dtype": samples.dtype.name, "mpp": 0.5}


class TestZarr(PartsPromises):
    reader = ZarrSlide

    @pytest.fixture(
        scope="class",
        params=kinds(
            Kind("v4.ome.zarr", ome_zarr(PLANES, factors=THREE), scene(), mpp=0.5),
            Kind("v5.ome.zarr", ome_zarr(PLANES, **V5, factors=THREE), scene(), mpp=0.5),
            Kind("sharded.ome.zarr", ome_zarr(PLANES, **V5, chunks=(32, 40), shards=SHARDS), scene(), mpp=0.5),
            Kind("cyx.ome.zarr", ome_zarr(PLANES, **V5, axes="cyx", compressors=[GzipCodec()]), scene(), mpp=0.5),
            Kind("slashes.ome.zarr", ome_zarr(PLANES, chunk_key_encoding=SLASHES), scene(), mpp=0.5),
            Kind(
                "grey.ome.zarr",
                ome_zarr(PLANES[:1], axes="yx", compressors=ZSTD, **V5),
                repeated(grey()),
                channels=GREY,
                mpp=0.5,
            ),
            Kind(
                "uint16.ome.zarr",
                ome_zarr(DEEP, compressors=BLOSC, **V5),
                SHADES,
                **written(DEEP, "grey"),
            ),
            Kind("float32.ome.zarr", ome_zarr(REAL[:1]), SHADES, **written(REAL[:1], "grey")),
            Kind(
                "colours16.ome.zarr",
                ome_zarr(deep().transpose(2, 0, 1)),
                scene(),
                **written(deep().transpose(2, 0, 1), *RGB),
            ),
            Kind("signed.ome.zarr", ome_zarr(SIGNED, **V5), TWO, **written(SIGNED, "channel 1", "channel 2")),
            Kind("swapped.ome.zarr", ome_zarr(SIGNED.astype(">i2")), TWO, **written(SIGNED, "channel 1", "channel 2")),
            Kind("packed.ozx", in_a_zip, scene(), mpp=0.5),
        ),
    )
    @classmethod
    def kind(cls, request: pytest.FixtureRequest) -> Kind:
        kind: Kind = request.param
        return kind


def dicom(planes: np.ndarray, written: Written) -> Callable[[Path], object]:
    return lambda path: write_dicom(path, planes, written)


def series(path: Path) -> None:
    """Two resolutions in a file each, beside pictures of the label and the glass."""
    path.mkdir()
    half = vendor_slides.shrunk(scene(), 2)
    write_dicom(path / "a.dcm", half, Written("jpeg", spacing=0.001))
    write_dicom(path / "b.dcm", scene(), Written("jpeg"))
    write_dicom(path / "c.dcm", half, Written(kind=("ORIGINAL", "PRIMARY", "LABEL", "NONE")))
    write_dicom(path / "d.dcm", half, Written(kind=("ORIGINAL", "PRIMARY", "OVERVIEW", "NONE")))


class TestDicom(PartsPromises):
    reader = DicomSlide

    @pytest.fixture(
        scope="class",
        params=kinds(
            Kind("plain.dcm", dicom(scene(), Written()), scene(), mpp=0.5),
            Kind("implicit.dcm", dicom(scene(), Written("implicit")), scene(), mpp=0.5),
            Kind("jpeg.dcm", dicom(scene(), Written("jpeg")), scene(), tolerance=4, mpp=0.5),
            Kind("jpeg-2000.dcm", dicom(scene(), Written("jpeg-2000")), scene(), mpp=0.5),
            Kind("fragments.dcm", dicom(scene(), Written("jpeg", fragments=3)), scene(), tolerance=4, mpp=0.5),
            Kind("sparse.dcm", dicom(scene(), Written(sparse=True, tile=(20, 40))), scene(), mpp=0.5),
            Kind("uint16.dcm", dicom(DEEP, Written()), SHADES, **written(DEEP, "grey")),
            Kind("int16.dcm", dicom(SIGNED[:1], Written()), SHADES, **written(SIGNED[:1], "grey")),
            Kind("paths.dcm", dicom(SIGNED, Written(paths=("DAPI", "GFP"))), TWO, **written(SIGNED, "DAPI", "GFP")),
            Kind("series", series, scene(), tolerance=4, mpp=0.5),
        ),
    )
    @classmethod
    def kind(cls, request: pytest.FixtureRequest) -> Kind:
        kind: Kind = request.param
        return kind


def vendor(name: str) -> Callable[[Path], object]:
    write: Callable[[Path, Pixels], object] = getattr(vendor_slides, name)
    return lambda path: write(path, scene())


class TestVendors(PartsPromises):
    reader = OpenSlideSlide

    @pytest.fixture(
        scope="class",
        params=kinds(
            Kind("trestle.tif", vendor("trestle"), scene(), tolerance=4, mpp=0.5),
            Kind("philips.tiff", vendor("philips"), scene(), tolerance=4, mpp=0.5),
            Kind("huron.tif", vendor("huron"), scene(), tolerance=4, mpp=0.5),
        ),
    )
    @classmethod
    def kind(cls, request: pytest.FixtureRequest) -> Kind:
        kind: Kind = request.param
        return kind

    def test_it_has_two_levels(self, slide: Slide) -> None:
        assert len(slide.levels) == 2
