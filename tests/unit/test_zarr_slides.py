"""What OME-Zarrs show: channels, windows, scale, levels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.imaging.normalisation import Window
from shared.imaging.tiling import Box
from shared.slides import open_slide
from shared.slides.zarr_files import FolderFiles
from shared.slides.zarr_images import read_image
from tests.slide_files import NOISE, read_all
from tests.zarr_images import NUMBERS, PLANES, change, write_ome_zarr, zipped

OMERO = {
    "channels": [
        {"label": "DAPI", "color": "0000FF", "window": {"start": 100, "end": 1100, "min": 0, "max": 65535}},
        {"label": "GFP", "color": "00FF00"},
    ]
}
STAINS = np.stack([np.full((30, 40), 600), np.arange(1200).reshape(30, 40)]).astype(np.uint16)


def stained(folder: Path, **options: Any) -> Path:
    return write_ome_zarr(folder, STAINS, omero=OMERO, **options)


class TestWhatItShows:
    def test_stains_are_shown_as_red_and_green_each_through_its_window(self, tmp_path: Path) -> None:
        with open_slide(stained(tmp_path / "a.ome.zarr")) as slide:
            pixels = read_all(slide)
            assert slide.channels == ("DAPI", "GFP")
            assert slide.dtype == "uint16"
            assert isinstance(slide.window, tuple)
            assert slide.window[0] == Window(100, 1100)
        assert (pixels[:, :, 0] == 128).all()
        assert pixels[:, :, 1].min() == 0
        assert pixels[:, :, 1].max() == 255
        assert not pixels[:, :, 2].any()

    def test_every_channel_can_be_read_by_itself(self, tmp_path: Path) -> None:
        five = np.stack([np.full((30, 40), value) for value in range(5)]).astype(np.uint8)
        with open_slide(write_ome_zarr(tmp_path / "a.ome.zarr", five)) as slide:
            assert slide.read_channels(Box(0, 0, 1, 1)).tolist() == [[[0, 1, 2, 3, 4]]]
            assert slide.read(Box(0, 0, 1, 1)).tolist() == [[[0, 1, 2]]]
            assert slide.channels == tuple(f"channel {number}" for number in range(1, 6))

    @pytest.mark.parametrize(
        ("unit", "mpp"), [("nanometer", 0.5), ("micrometer", None), ("furlong", None), (None, None)]
    )
    def test_the_scale_follows_its_unit(self, tmp_path: Path, unit: str | None, mpp: float | None) -> None:
        """500 µm per pixel are no microscope's."""
        folder = write_ome_zarr(tmp_path / "a.ome.zarr", PLANES)

        def rename(about: dict[str, Any]) -> None:
            for axis in about["multiscales"][0]["axes"]:
                axis["unit"] = unit

        change(folder / ".zattrs", rename)
        with open_slide(folder) as slide:
            assert slide.mpp == mpp

    def test_a_scale_of_the_whole_multiplies_that_of_the_level(self, tmp_path: Path) -> None:
        folder = write_ome_zarr(tmp_path / "a.ome.zarr", PLANES)
        whole = [{"type": "scale", "scale": [1, 1, 1, 2, 2]}]
        change(folder / ".zattrs", lambda about: about["multiscales"][0].update(coordinateTransformations=whole))
        with open_slide(folder) as slide:
            assert slide.mpp == 1.0

    def test_an_old_one_that_names_no_axes_is_tczyx(self, tmp_path: Path) -> None:
        folder = write_ome_zarr(tmp_path / "a.ome.zarr", PLANES)
        change(folder / ".zattrs", lambda about: about["multiscales"][0].pop("axes"))
        with open_slide(folder) as slide:
            np.testing.assert_array_equal(read_all(slide), NOISE)
            assert slide.mpp is None

    def test_a_level_that_does_not_show_the_same_is_left_out(self, tmp_path: Path) -> None:
        folder = write_ome_zarr(tmp_path / "a.ome.zarr", PLANES, factors=(1, 2))
        write_ome_zarr(tmp_path / "b.ome.zarr", PLANES[:, :40])
        (folder / "1").rename(folder / "2")
        (tmp_path / "b.ome.zarr" / "0").rename(folder / "1")
        with open_slide(folder) as slide:
            assert len(slide.levels) == 1

    def test_a_folder_around_it_makes_no_difference(self, tmp_path: Path) -> None:
        write_ome_zarr(tmp_path / "image" / "a.ome.zarr", PLANES)
        with open_slide(tmp_path / "image") as slide:
            np.testing.assert_array_equal(read_all(slide), NOISE)

    def test_labels_beside_it_are_images_of_their_own(self, tmp_path: Path) -> None:
        folder = write_ome_zarr(tmp_path / "a.ome.zarr", PLANES)
        labels = NUMBERS[:1].astype(np.int32)
        write_ome_zarr(folder / "labels" / "nuclei", labels)
        files = FolderFiles(folder)
        image = read_image(files, "labels/nuclei")
        np.testing.assert_array_equal(image.read(Box(0, 0, 50, 70), 0, (0, 1))[:, :, 0], labels[0])
        with open_slide(folder) as slide:
            np.testing.assert_array_equal(read_all(slide), NOISE)

    def test_it_can_lie_in_a_zip_with_or_without_a_folder_around_it(self, tmp_path: Path) -> None:
        folder = write_ome_zarr(tmp_path / "a.ome.zarr", PLANES, version="0.5")
        for top in ("", "a.ome.zarr/"):
            with open_slide(zipped(folder, tmp_path / "a.zip", top)) as slide:
                np.testing.assert_array_equal(read_all(slide), NOISE)
