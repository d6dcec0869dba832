"""The label image as PNG, TIFF and pyramidal OME-TIFF, read by other programs' readers."""

import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from services.worker.writers import tile_spool
from services.worker.writers.label_image import LARGEST_PNG, MOST_OBJECTS, LabelPng, LabelTiff, is_png
from services.worker.writers.ome_tiff import LabelPyramid
from services.worker.writers.pyramid import Labels, halve_labels
from services.worker.writers.tile_spool import TileSpool
from shared.imaging.tiling import Box, plan_blocks
from tests.unit.writers_pixels.drawn import LENGTHS, draw_blobs

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def fill(writer: Any, labels: Labels, side: int = 1024) -> None:
    with writer:
        for block in plan_blocks(*labels.shape, side=side):
            writer.add(block, labels[block.slices()])


def write_pyramid(labels: Labels, *, mpp: float | None = None, name: str = "a.tif", side: int = 1024) -> io.BytesIO:
    file = io.BytesIO()
    fill(LabelPyramid(file, height=labels.shape[0], width=labels.shape[1], mpp=mpp, name=name), labels, side)
    file.seek(0)
    return file


class TestChoice:
    @pytest.mark.parametrize(
        ("height", "objects", "expected"),
        [(LARGEST_PNG, 0, True), (LARGEST_PNG + 1, 0, False), (1, MOST_OBJECTS, True), (1, MOST_OBJECTS + 1, False)],
    )
    def test_a_png_where_it_holds_the_image(self, height: int, objects: int, expected: bool) -> None:
        assert is_png(height, 1, objects=objects) is expected


class TestPng:
    def test_other_programs_read_the_labels_that_were_written(self) -> None:
        labels, file = draw_blobs(700, 1100) % 2**16, io.BytesIO()
        labels[0, 0] = MOST_OBJECTS
        fill(LabelPng(file, height=700, width=1100, mpp=None), labels, side=512)
        np.testing.assert_array_equal(imagecodecs.png_decode(file.getvalue()), labels)
        with Image.open(file) as image:
            assert image.mode == "I;16"

    def test_the_scale_is_stored_if_it_is_known(self) -> None:
        file = io.BytesIO()
        fill(LabelPng(file, height=9, width=9, mpp=0.5), draw_blobs(9, 9) % 9)
        with Image.open(file) as image:
            assert image.info["dpi"] == pytest.approx((50_800, 50_800))

    def test_a_label_that_does_not_fit_is_refused(self) -> None:
        with pytest.raises(ValueError, match="65536 does not fit"):
            fill(LabelPng(io.BytesIO(), height=1, width=1, mpp=None), np.array([[2**16]], dtype=np.uint32))


class TestTiff:
    @settings(max_examples=8, deadline=None)
    @given(height=LENGTHS, width=LENGTHS, side=st.integers(300, 1500))
    def test_other_programs_read_the_labels_that_were_written(self, height: int, width: int, side: int) -> None:
        labels, file = draw_blobs(height, width), io.BytesIO()
        fill(LabelTiff(file, height=height, width=width, mpp=0.25), labels, side)
        np.testing.assert_array_equal(tifffile.imread(io.BytesIO(file.getvalue())), labels)

    def test_it_is_tiled_compressed_and_knows_its_scale(self, tmp_path: Path) -> None:
        path = tmp_path / "labels.tif"
        with path.open("w+b") as file:
            fill(LabelTiff(file, height=1500, width=900, mpp=0.25), np.zeros((1500, 900), dtype=np.uint32))
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            assert (page.tilelength, page.compression, str(page.dtype)) == (512, 8, "uint32")
            assert page.get_resolution(unit="MICROMETER") == pytest.approx((4, 4))
        assert path.stat().st_size < 10_000

    def test_nothing_is_written_of_an_image_that_failed(self) -> None:
        file = io.BytesIO()
        with pytest.raises(RuntimeError), LabelTiff(file, height=9, width=9, mpp=None):
            raise RuntimeError
        assert not file.getvalue()


class TestSpool:
    def test_what_no_longer_fits_the_memory_waits_on_the_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tile_spool, "IN_MEMORY", 1000)
        labels = np.random.default_rng(0).integers(0, 2**32, (600, 600), dtype=np.uint32)
        with (tmp_path / "labels.tif").open("w+b") as file:
            fill(LabelTiff(file, height=600, width=600, mpp=None, folder=tmp_path), labels)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "labels.tif"), labels)
        assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]

    def test_tiles_of_background_take_no_room(self) -> None:
        spool = TileSpool(2560, 1024, levels=3, folder=None)
        spool.add(Box(0, 0, 2560, 1024), np.zeros((2560, 1024), dtype=np.uint32))
        spool.complete()
        tiles = list(spool.take(0))
        assert len(tiles) == 10
        assert all(tile is tiles[0] for tile in tiles)


class TestOmeTiff:
    @settings(max_examples=8, deadline=None)
    @given(height=LENGTHS, width=LENGTHS, side=st.sampled_from([512, 700, 1024, 2048]))
    def test_every_level_shows_the_labels_halved(self, height: int, width: int, side: int) -> None:
        labels = draw_blobs(height, width)
        with tifffile.TiffFile(write_pyramid(labels, side=side)) as tiff:
            (series,) = tiff.series
            for level in series.levels:
                np.testing.assert_array_equal(level.asarray(), labels)
                labels = halve_labels(labels)
        assert max(series.levels[-1].shape) <= 512

    def test_it_is_an_ome_tiff_with_levels_in_sub_ifds(self) -> None:
        with tifffile.TiffFile(write_pyramid(draw_blobs(1100, 2100))) as tiff:
            assert (tiff.is_ome, tiff.is_bigtiff, len(tiff.pages)) == (True, True, 1)
            first = tiff.pages.first
            assert isinstance(first, tifffile.TiffPage)
            assert first.subifds is not None
            assert len(first.subifds) == 3
            assert [level.shape for level in tiff.series[0].levels] == [
                (1100, 2100),
                (550, 1050),
                (275, 525),
                (138, 263),
            ]
            reduced = [level.pages[0] for level in tiff.series[0].levels[1:]]
            assert all(isinstance(page, tifffile.TiffPage) and page.is_reduced and page.is_tiled for page in reduced)

    def test_the_ome_xml_tells_size_type_scale_and_name(self) -> None:
        with tifffile.TiffFile(write_pyramid(draw_blobs(600, 700), mpp=0.499, name="Präparat <7>.svs")) as tiff:
            image = ElementTree.fromstring(tiff.ome_metadata or "").find(f"{OME}Image")
        assert image is not None
        assert image.get("Name") == "Präparat <7>.svs"
        pixels = image.find(f"{OME}Pixels")
        assert pixels is not None
        expected = {
            "Type": "uint32",
            "SizeX": "700",
            "SizeY": "600",
            "SizeC": "1",
            "PhysicalSizeX": "0.499",
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": "0.499",
            "PhysicalSizeYUnit": "µm",
        }
        assert expected.items() <= pixels.attrib.items()

    def test_no_scale_is_made_up(self) -> None:
        with tifffile.TiffFile(write_pyramid(draw_blobs(10, 10))) as tiff:
            assert "PhysicalSize" not in (tiff.ome_metadata or "")

    def test_the_same_labels_are_the_same_file(self) -> None:
        first, second = write_pyramid(draw_blobs(600, 700)), write_pyramid(draw_blobs(600, 700))
        assert first.getvalue() == second.getvalue()

    def test_other_labels_have_another_identity(self) -> None:
        found = set()
        for seed in (1, 2):
            with tifffile.TiffFile(write_pyramid(draw_blobs(600, 700, seed))) as tiff:
                found.add(ElementTree.fromstring(tiff.ome_metadata or "").get("UUID"))
        assert len(found) == 2
