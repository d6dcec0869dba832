"""TIFFs of many pages, of stains, and stored another way up than they are shown."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from shared.annotations import read_plane, read_values
from shared.errors import Rejected
from shared.imaging.normalisation import Window
from shared.imaging.tiling import Box
from shared.slides import LocalSource, RangedSource, Slide, count_pages, open_slide
from shared.slides.orientation import Orientation
from shared.slides.slide import GREY
from shared.slides.windows import restore, store
from tests.slide_files import NOISE, USERS_NAME, read_all, saved, tiff, whole

STACK = np.random.default_rng(3).integers(0, 256, (2, 5, 40, 60), dtype=np.uint8)  # T, Z, Y, X


class TestOrientation:
    @given(
        tag=st.integers(1, 8),
        height=st.integers(1, 30),
        width=st.integers(1, 30),
        data=st.data(),
    )
    def test_a_shown_box_is_read_from_where_it_is_stored(
        self, tag: int, height: int, width: int, data: st.DataObject
    ) -> None:
        stored = np.arange(height * width).reshape(height, width)
        orientation = Orientation.of(tag)
        shown = orientation.turn(stored)
        assert shown.shape == orientation.size(height, width)
        top, left = data.draw(st.integers(0, shown.shape[0] - 1)), data.draw(st.integers(0, shown.shape[1] - 1))
        bottom = data.draw(st.integers(top + 1, shown.shape[0]))
        right = data.draw(st.integers(left + 1, shown.shape[1]))
        box = Box(top, left, bottom, right)
        place = orientation.stored_box(box, height=shown.shape[0], width=shown.shape[1])
        np.testing.assert_array_equal(orientation.turn(stored[place.slices()]), shown[box.slices()])

    @pytest.mark.parametrize("tag", range(1, 9))
    def test_a_photograph_is_shown_as_others_show_it(self, tmp_path: Path, tag: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = tag
        path = saved(tmp_path / "a.jpg", Image.fromarray(NOISE), exif=exif)
        with Image.open(path) as image:
            np.testing.assert_array_equal(whole(path), np.asarray(ImageOps.exif_transpose(image)))

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF")
    def test_what_exif_says_unreadably_is_not_followed(self, tmp_path: Path) -> None:
        plain = saved(tmp_path / "a.jpg", Image.fromarray(NOISE))
        path = saved(tmp_path / "b.jpg", Image.fromarray(NOISE), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
        np.testing.assert_array_equal(whole(path), whole(plain))

    @pytest.mark.parametrize("tag", range(1, 9))
    def test_a_tiff_is_shown_as_a_photograph_is(self, tmp_path: Path, tag: int) -> None:
        path = tiff(tmp_path / "a.tif", NOISE, tile=(64, 48), photometric="rgb", extratags=[(274, "H", 1, tag, True)])
        np.testing.assert_array_equal(whole(path), Orientation.of(tag).turn(NOISE))

    @pytest.mark.parametrize("tag", range(1, 9))
    @pytest.mark.parametrize("options", [{}, {"tile": (64, 48), "compression": "zlib"}])
    def test_a_mask_is_turned_as_its_image_is(self, tmp_path: Path, tag: int, options: dict[str, Any]) -> None:
        turned = [(274, "H", 1, tag, True)]
        path = tiff(tmp_path / "a.tif", NOISE[:, :, 0], photometric="minisblack", extratags=turned, **options)
        shown = whole(path)[:, :, 0]
        np.testing.assert_array_equal(read_values(path, "mask"), shown)
        np.testing.assert_array_equal(read_plane(path), shown)


class TestStacks:
    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_a_plane_is_opened_by_its_number(self, tmp_path: Path, compression: str | None) -> None:
        path = tmp_path / "a.ome.tif"
        tifffile.imwrite(path, STACK, ome=True, metadata={"axes": "TZYX"}, compression=compression)
        assert count_pages(LocalSource(path), name="a") == 10
        for page in range(10):
            with open_slide(path, page=page) as slide:
                np.testing.assert_array_equal(read_all(slide)[:, :, 0], STACK.reshape(10, 40, 60)[page])

    def test_a_plane_of_several_stains_has_them_all(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, STACK.transpose(1, 0, 2, 3).copy(), imagej=True, metadata={"axes": "ZCYX"})
        with open_slide(path, page=3) as slide:
            every = slide.read_channels(Box(0, 0, 40, 60))
        np.testing.assert_array_equal(every.transpose(2, 0, 1), STACK[:, 3])

    def test_pages_without_a_word_about_them_are_a_stack(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        Image.fromarray(STACK[0, 0]).save(
            path, save_all=True, append_images=[Image.fromarray(plane) for plane in STACK[0, 1:]]
        )
        assert count_pages(LocalSource(path), name="a") == 5
        with open_slide(path, page=4) as slide:
            np.testing.assert_array_equal(read_all(slide)[:, :, 1], STACK[0, 4])

    def test_a_plane_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        path = tiff(tmp_path / "a.tif", NOISE, photometric="rgb")
        with pytest.raises(Rejected, match=r"my image\.tif: there is no plane 1, the file has 1"):
            open_slide(path, name=USERS_NAME, page=1)

    def test_a_file_that_is_no_stack_has_one_plane(self, tmp_path: Path) -> None:
        assert count_pages(LocalSource(tiff(tmp_path / "a.tif", NOISE, photometric="rgb")), name="a") == 1


class TestStains:
    def test_each_is_stretched_by_itself(self, tmp_path: Path) -> None:
        dim, bright = np.uint16(3) * NOISE[:, :, 0] + 100, np.uint16(200) * NOISE[:, :, 1]
        path = tiff(tmp_path / "a.tif", np.stack([dim, bright]), imagej=True, metadata={"axes": "CYX"})
        with open_slide(path) as slide:
            assert isinstance(slide.window, tuple)
            pixels = slide.read_channels(Box(0, 0, 200, 150))
        np.testing.assert_allclose(pixels, NOISE[:, :, :2], atol=1)

    def test_one_window_of_an_earlier_time_holds_for_all(self, tmp_path: Path) -> None:
        deep = NOISE.astype(np.uint16).transpose(2, 0, 1) * 100
        path = tiff(tmp_path / "a.tif", deep.copy(), imagej=True, metadata={"axes": "CYX"})
        with open_slide(path, window=Window(0.0, 25_500.0)) as slide:
            np.testing.assert_array_equal(read_all(slide), NOISE)

    def test_more_than_three_are_shown_by_the_first_three(self, tmp_path: Path) -> None:
        five = np.stack([NOISE[:, :, 0] // number for number in range(1, 6)])
        path = tiff(tmp_path / "a.tif", five, photometric="minisblack", planarconfig="separate")
        with open_slide(path) as slide:
            np.testing.assert_array_equal(read_all(slide), five[:3].transpose(1, 2, 0))
            np.testing.assert_array_equal(slide.read_channels(Box(0, 0, 200, 150)), five.transpose(1, 2, 0))
            assert slide.channels == tuple(f"channel {number}" for number in range(1, 6))

    def test_grey_with_alpha_is_grey(self, tmp_path: Path) -> None:
        opaque = np.full((200, 150, 1), 255, dtype=np.uint8)
        both = np.concatenate([NOISE[:, :, :1], opaque], axis=2)
        options = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
        with open_slide(tiff(tmp_path / "a.tif", both, **options)) as slide:
            assert slide.channels == GREY
            np.testing.assert_array_equal(slide.read_channels(Box(0, 0, 200, 150)), NOISE[:, :, :1])

    def test_stains_that_nobody_asked_for_are_not_read(self, tmp_path: Path) -> None:
        """Of imaging by many rounds of staining, the picture of three reads three pages of fifty."""
        pages = np.stack([NOISE[:, :, 0]] * 50)
        content = tiff(tmp_path / "a.tif", pages, photometric="minisblack", planarconfig="separate").read_bytes()
        source = RangedSource(lambda offset, count: content[offset : offset + count], len(content))
        with open_slide(source) as slide:
            np.testing.assert_array_equal(read_all(slide)[:, :, 2], NOISE[:, :, 0])
        assert source.bytes_fetched < 0.2 * len(content)

    @given(pairs=st.lists(st.tuples(st.floats(-9, 9), st.floats(10, 99)), max_size=4))
    def test_windows_survive_being_stored(self, pairs: list[tuple[float, float]]) -> None:
        windows = tuple(Window(*pair) for pair in pairs)
        stored = store(windows or None)
        assert restore(stored and [list(pair) for pair in stored if isinstance(pair, tuple)]) == (windows or None)

    def test_a_single_window_is_stored_as_rows_of_before_hold_it(self) -> None:
        assert store(Window(1.0, 2.0)) == (1.0, 2.0)
        assert restore([1.0, 2.0]) == Window(1.0, 2.0)


class TestOme:
    @pytest.mark.parametrize(
        ("size", "unit", "mpp"),
        [(0.25, "µm", 0.25), (250, "nm", 0.25), (0.00025, "mm", 0.25), (3, "pixel", None), ("x", "µm", None)],
    )
    def test_the_scale_is_what_it_says_in_the_unit_it_says(
        self, tmp_path: Path, size: object, unit: str, mpp: float | None
    ) -> None:
        with described(tmp_path, f'PhysicalSizeX="{size}" PhysicalSizeXUnit="{unit}"') as slide:
            assert slide.mpp == (None if mpp is None else pytest.approx(mpp))

    def test_micrometres_are_meant_where_there_is_no_unit(self, tmp_path: Path) -> None:
        with described(tmp_path, 'PhysicalSizeX="0.5"') as slide:
            assert (slide.format, slide.mpp) == ("ome-tiff", 0.5)

    def test_a_description_that_is_no_xml_is_damage(self, tmp_path: Path) -> None:
        with pytest.raises(Rejected, match="damaged"):
            described(tmp_path, "<<")

    def test_a_description_that_grows_when_it_is_read_is_refused(self, tmp_path: Path) -> None:
        """Entities within entities: 10^9 characters in a kilobyte."""
        levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
        bomb = f'<!DOCTYPE OME [<!ENTITY e0 "0123456789">{levels}]>'
        with pytest.raises(Rejected):
            described(tmp_path, 'Name="&e9;"', before=bomb)


def described(folder: Path, attributes: str, *, before: str = "") -> Slide:
    """An OME-TIFF with these words about its pixels."""
    xml = (
        f'{before}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="30" SizeY="20" SizeC="1" SizeZ="1" '
        f'SizeT="1" {attributes}><Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData/></Pixels></Image></OME>'
    )
    return open_slide(tiff(folder / "a.ome.tif", NOISE[:20, :30, 0].copy(), description=xml.encode(), metadata=None))
