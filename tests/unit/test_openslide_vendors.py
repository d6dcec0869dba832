"""Scanners' slides through OpenSlide, as far as files of our own making can pass for them.

Leica, Philips, Huron, Trestle and Ventana are made here; MIRAX and Hamamatsu's index files only so far that they are
refused.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from shared.errors import Rejected
from shared.imaging.tiling import Box, Pixels
from shared.slides import open_slide
from shared.slides.openslide import OpenSlideSlide
from tests import vendor_slides
from tests.slide_files import read_all, refusal, retag

DOWN, RIGHT = np.mgrid[:256, :384]
SCENE = np.stack([RIGHT // 2 + 20, DOWN // 2 + 20, np.full_like(DOWN, 90)], axis=2).astype(np.uint8)
MAKERS: dict[str, Callable[[Path, Pixels], object]] = {
    "huron": vendor_slides.huron,
    "leica": vendor_slides.leica,
    "philips": vendor_slides.philips,
    "trestle": vendor_slides.trestle,
    "ventana": vendor_slides.ventana,
}


class TestKnown:
    @pytest.mark.parametrize("vendor", MAKERS)
    def test_a_slide_is_known_by_its_maker_and_scale(self, tmp_path: Path, vendor: str) -> None:
        MAKERS[vendor](tmp_path / "a.tif", SCENE)
        with open_slide(tmp_path / "a.tif") as slide:
            assert isinstance(slide, OpenSlideSlide)
            assert slide.format == vendor
            assert slide.mpp == pytest.approx(0.5)

    def test_glass_around_the_specimen_is_white_where_the_slide_names_no_colour(self, tmp_path: Path) -> None:
        vendor_slides.leica(tmp_path / "a.scn", SCENE)
        with open_slide(tmp_path / "a.scn") as slide:
            pixels = read_all(slide)
        down, right = vendor_slides.AROUND
        inside = pixels[down : down + 256, right : right + 384]
        assert np.abs(inside.astype(int) - SCENE).mean() < 2
        assert (pixels[: down - 1] == 255).all()
        assert (pixels[:, -right + 1 :] == 255).all()

    def test_a_level_that_is_no_whole_number_smaller_looks_the_same_however_it_is_read(self, tmp_path: Path) -> None:
        """Its pieces begin between pixels of the full resolution."""
        scene = np.random.default_rng(0).integers(0, 256, (2047, 3001, 3), dtype=np.uint8)
        vendor_slides.trestle(tmp_path / "a.tif", scene)
        with open_slide(tmp_path / "a.tif") as slide:
            level = slide.levels[1]
            whole = slide.read(Box(0, 0, level.height, level.width), 1)
            for box in (Box(3, 5, 500, 600), Box(900, 1000, level.height, level.width), Box(77, 1023, 990, 1025)):
                np.testing.assert_array_equal(slide.read(box, 1), whole[box.slices()])


def tiles_of_any_number(path: Path) -> None:
    vendor_slides.ventana(path, SCENE, rows=10**9)


def tiles_that_overlap_wholly(path: Path) -> None:
    about = "OverlapsXY: 64 64 64 64;Objective Power=20"
    vendor_slides.write_levels(path, [SCENE], [about], software="MedScan 4.2")


def tile_of_any_length(write: Callable[[Path, Pixels], object]) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        write(path, SCENE)
        with tifffile.TiffFile(path) as file:
            counts = file.pages.first.databytecounts
        retag(path, TileByteCounts=(2**32 - 1, *counts[1:]))

    return damage


def mirax(path: Path, index: str) -> None:
    """A MIRAX slide as far as OpenSlide looks before it opens one: its thumbnail, and its folder with an index."""
    path.write_bytes(b"\xff\xd8\xff\xe0 a thumbnail")
    folder = path.with_suffix("")
    folder.mkdir()
    (folder / "Slidedat.ini").write_text(index)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "areas of any size": (tiles_of_any_number, "announces more than 16777216 tiles"),
    "tiles that overlap wholly": (tiles_that_overlap_wholly, "overlap by more than their size"),
    **{
        f"a tile of any length, {vendor}": (tile_of_any_length(write), "beyond the end of the file")
        for vendor, write in MAKERS.items()
    },
}


class TestRefused:
    @pytest.mark.parametrize("kind", REFUSED)
    def test_what_openslide_would_die_of_is_refused(self, tmp_path: Path, kind: str) -> None:
        write, cause = REFUSED[kind]
        write(tmp_path / "sent.tif")
        text = refusal(tmp_path / "sent.tif")
        assert re.search(cause, text), text

    @pytest.mark.parametrize(
        ("index", "cause"),
        [
            ("[DATAFILE]\nFILE_0 = ../other/Data.dat\n", "names a file that is not its own: ../other/Data.dat"),
            ("[DATAFILE]\nFILE_0 = /etc/passwd\n", "names a file that is not its own"),
            ("[HIERARCHICAL]\nINDEXFILE = a\\b\n", "names a file that is not its own"),
            ("[GENERAL]\nIMAGENUMBER_X = 2000000000\n", "says IMAGENUMBER_X = 2000000000"),
            ("[GENERAL]\nIMAGENUMBER_X = 2\n", "the slide cannot be read"),
        ],
    )
    def test_a_mirax_slide_is_looked_at_before_it_is_opened(self, tmp_path: Path, index: str, cause: str) -> None:
        mirax(tmp_path / "a.mrxs", index)
        assert cause in refusal(tmp_path / "a.mrxs")

    def test_a_mirax_slide_staged_with_its_folder_finds_it(self, tmp_path: Path) -> None:
        mirax(tmp_path / "a.mrxs", "[GENERAL]\nIMAGENUMBER_X = 2000000000\n")
        assert "says IMAGENUMBER_X" in refusal(tmp_path)

    def test_a_mirax_slide_without_its_folder_is_not_taken_for_the_picture_it_looks_like(self, tmp_path: Path) -> None:
        (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff\xe0 a thumbnail")
        with pytest.raises(Rejected):
            open_slide(tmp_path / "a.mrxs")

    @pytest.mark.parametrize(
        ("line", "cause"),
        [
            ("ImageFile=../other.jpg", "names a file that is not its own: ../other.jpg"),
            ("ImageFile(1,0)=/data/other.jpg", "names a file that is not its own"),
            ("NoJpegColumns=2000000000", "says NoJpegColumns = 2000000000"),
        ],
    )
    def test_an_index_of_hamamatsu_names_files_beside_it_only(self, tmp_path: Path, line: str, cause: str) -> None:
        path = tmp_path / "a.vms"
        path.write_text(f"[Uncompressed Virtual Microscope Specimen]\nNoLayers=1\n{line}\n")
        assert cause in refusal(path)
