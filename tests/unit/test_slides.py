"""Images as they come: unusual ones are read."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from shared.errors import Rejected
from shared.imaging.tiling import Box, mirror_read
from shared.slides import open_slide
from tests.slide_files import NOISE, RAMP, SEED, USERS_NAME, png, saved, tiff, whole


class TestUnusualPng:
    def test_one_pixel_is_an_image(self, tmp_path: Path) -> None:
        pixels = whole(png(tmp_path / "a.png", NOISE[:1, :1]))
        np.testing.assert_array_equal(pixels, NOISE[:1, :1])

    def test_an_image_smaller_than_the_halo_is_mirrored(self, tmp_path: Path) -> None:
        with open_slide(png(tmp_path / "a.png", NOISE[:7, :13])) as slide:
            seen = mirror_read(slide.read, Box(-96, -96, 160, 160), height=slide.height, width=slide.width)
        np.testing.assert_array_equal(seen[96:103, 96:109], NOISE[:7, :13])
        assert seen.shape == (256, 256, 3)

    def test_what_is_transparent_lies_on_white(self, tmp_path: Path) -> None:
        alpha = np.zeros((200, 150, 1), dtype=np.uint8)
        alpha[:100] = 255
        pixels = whole(png(tmp_path / "a.png", np.concatenate([NOISE, alpha], axis=2)))
        np.testing.assert_array_equal(pixels[:100], NOISE[:100])
        assert (pixels[100:] == 255).all()

    def test_grey_with_alpha_is_read(self, tmp_path: Path) -> None:
        grey, opaque = NOISE[:, :, :1], np.full((200, 150, 1), 255, dtype=np.uint8)
        pixels = whole(png(tmp_path / "a.png", np.concatenate([grey, opaque], axis=2)))
        np.testing.assert_array_equal(pixels, grey.repeat(3, axis=2))

    def test_one_bit_is_black_and_white(self, tmp_path: Path) -> None:
        bits = NOISE[:, :, 0] > 99
        pixels = whole(saved(tmp_path / "a.png", Image.fromarray(bits)))
        np.testing.assert_array_equal(pixels[:, :, 1], np.where(bits, 255, 0))

    def test_a_palette_becomes_its_colours(self, tmp_path: Path) -> None:
        indexed = Image.fromarray(NOISE).quantize(60)
        pixels = whole(saved(tmp_path / "a.png", indexed))
        np.testing.assert_array_equal(pixels, np.asarray(indexed.convert("RGB")))

    def test_a_transparent_colour_of_a_palette_becomes_white(self, tmp_path: Path) -> None:
        indexed = Image.fromarray(NOISE).quantize(60)
        pixels = whole(saved(tmp_path / "a.png", indexed, transparency=5))
        assert (pixels[np.asarray(indexed) == 5] == 255).all()

    def test_sixteen_bits_are_stretched_as_those_of_a_tiff(self, tmp_path: Path) -> None:
        pixels = whole(png(tmp_path / "a.png", RAMP))
        assert (pixels.min(), pixels.max()) == (0, 255)
        np.testing.assert_array_equal(pixels, whole(tiff(tmp_path / "a.tif", RAMP)))

    def test_sixteen_bits_of_colour_are_stretched_too(self, tmp_path: Path) -> None:
        dim = NOISE.astype(np.uint16) + 300  # of 65,535: black, if the upper bits alone were taken
        pixels = whole(png(tmp_path / "a.png", dim))
        np.testing.assert_array_equal(pixels, whole(tiff(tmp_path / "a.tif", dim, photometric="rgb")))
        np.testing.assert_allclose(pixels, NOISE, atol=1)

    def test_an_animation_shows_its_first_picture(self, tmp_path: Path) -> None:
        first, second = Image.fromarray(NOISE), Image.fromarray(255 - NOISE)
        pixels = whole(saved(tmp_path / "a.png", first, save_all=True, append_images=[second]))
        np.testing.assert_array_equal(pixels, NOISE)

    def test_the_name_says_nothing_about_the_format(self, tmp_path: Path) -> None:
        np.testing.assert_array_equal(whole(png(tmp_path / "a.svs", NOISE)), NOISE)


class TestUnusualJpeg:
    @pytest.mark.parametrize("mode", ["L", "CMYK", "YCbCr"])
    def test_any_colours_become_rgb(self, tmp_path: Path, mode: str) -> None:
        image = saved(tmp_path / "a.jpg", Image.new("RGB", (64, 48), (200, 30, 90)).convert(mode), quality=95)
        expected = Image.new("RGB", (64, 48), (200, 30, 90)).convert(mode).convert("RGB")
        np.testing.assert_allclose(whole(image), np.asarray(expected), atol=4)

    def test_a_progressive_one_is_read(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.jpg", Image.new("RGB", (64, 48), (200, 30, 90)), progressive=True)
        assert whole(path).shape == (48, 64, 3)


class TestUnusualTiff:
    def test_a_constant_image_is_black(self, tmp_path: Path) -> None:
        for number_type in (np.uint16, np.int32, np.float32):
            assert not whole(tiff(tmp_path / "a.tif", np.full((9, 9), 77, dtype=number_type))).any()

    def test_what_is_no_number_becomes_black_and_what_is_infinite_an_end(self, tmp_path: Path) -> None:
        samples = RAMP.astype(np.float32)
        samples[5, :3] = np.nan, np.inf, -np.inf
        pixels = whole(tiff(tmp_path / "a.tif", samples))
        assert pixels[5, :3, 0].tolist() == [0, 255, 0]
        assert (pixels[0, 0, 0], pixels[199, 149, 0]) == (0, 255)

    def test_an_image_without_any_number_is_black(self, tmp_path: Path) -> None:
        assert not whole(tiff(tmp_path / "a.tif", np.full((9, 9), np.nan))).any()

    def test_a_palette_becomes_its_colours(self, tmp_path: Path) -> None:
        colours = SEED.integers(0, 2**16, (3, 256), dtype=np.uint16)
        pixels = whole(tiff(tmp_path / "a.tif", NOISE[:, :, 0], photometric="palette", colormap=colours))
        np.testing.assert_array_equal(pixels, (colours >> 8).T[NOISE[:, :, 0]])

    def test_where_zero_is_white_it_is_white(self, tmp_path: Path) -> None:
        pixels = whole(tiff(tmp_path / "a.tif", NOISE[:, :, 0], photometric="miniswhite"))
        np.testing.assert_array_equal(pixels[:, :, 0], 255 - NOISE[:, :, 0])

    def test_one_bit_is_black_and_white_even_if_all_are_one(self, tmp_path: Path) -> None:
        assert (whole(tiff(tmp_path / "a.tif", np.ones((9, 20), dtype=bool), photometric="minisblack")) == 255).all()

    def test_alpha_of_sixteen_bits_does_not_stretch_the_colours(self, tmp_path: Path) -> None:
        opaque = np.full((200, 150, 1), 65535, dtype=np.uint16)
        deep = np.concatenate([NOISE.astype(np.uint16) + 300, opaque], axis=2)
        pixels = whole(tiff(tmp_path / "a.tif", deep, photometric="rgb", extrasamples=["unassalpha"]))
        np.testing.assert_allclose(pixels, NOISE, atol=1)

    def test_a_fourth_channel_that_is_not_alpha_is_left_out(self, tmp_path: Path) -> None:
        four = np.concatenate([NOISE, NOISE[:, :, :1]], axis=2)
        pixels = whole(tiff(tmp_path / "a.tif", four, photometric="rgb", extrasamples=["unspecified"]))
        np.testing.assert_array_equal(pixels, NOISE)

    def test_the_first_image_counts_where_others_follow(self, tmp_path: Path) -> None:
        path = tiff(tmp_path / "a.tif", NOISE, photometric="rgb")
        tifffile.imwrite(path, NOISE[:20, :20], photometric="rgb", append=True)
        np.testing.assert_array_equal(whole(path), NOISE)

    def test_tiles_that_the_file_leaves_out_are_black(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tiles = [np.full((64, 64), 200, dtype=np.uint8), None, None, None]
        tifffile.imwrite(path, iter(tiles), shape=(128, 128), dtype=np.uint8, tile=(64, 64), compression="zlib")
        pixels = whole(path)
        assert (pixels[:64, :64] == 200).all()
        assert not pixels[64:].any()

    def test_an_uncompressed_one_beyond_any_memory_is_read_in_parts(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, shape=(60_000, 40_000, 3), dtype=np.uint8, photometric="rgb")  # a hole on disk
        tracemalloc.start()
        with open_slide(path) as slide:
            assert slide.read(Box(59_000, 39_000, 60_000, 40_000)).shape == (1000, 1000, 3)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
        tracemalloc.stop()

    def test_a_screens_resolution_is_no_scale(self, tmp_path: Path) -> None:
        for unit in ("INCH", "NONE"):
            with open_slide(tiff(tmp_path / "a.tif", NOISE, resolution=(72, 72), resolutionunit=unit)) as slide:
                assert slide.mpp is None

    def test_a_tile_that_is_damaged_fails_where_it_is_read_and_nowhere_else(self, tmp_path: Path) -> None:
        path = tiff(tmp_path / "a.tif", NOISE, tile=(64, 64), compression="zlib", photometric="rgb")
        with tifffile.TiffFile(path) as file:
            offset, count = file.pages.first.dataoffsets[4], file.pages.first.databytecounts[4]
        content = bytearray(path.read_bytes())
        content[offset : offset + count] = bytes(count)
        path.write_bytes(content)
        with open_slide(path, name=USERS_NAME) as slide:
            np.testing.assert_array_equal(slide.read(Box(0, 0, 64, 150)), NOISE[:64])
            with pytest.raises(Rejected, match=r"my image\.tif: the TIFF is damaged"):
                slide.read(Box(60, 60, 70, 70))

    @pytest.mark.filterwarnings("ignore:.*closed file")
    def test_what_it_says_about_other_files_is_not_followed(self, tmp_path: Path) -> None:
        """A header could name any file that this process may read, and show it to whoever sent the header."""
        (tmp_path / "others").mkdir()
        tiff(tmp_path / "others" / "secret.tif", np.full((20, 30), 200, dtype=np.uint8), compression="zlib")
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="30" SizeY="20" SizeC="1" SizeZ="1" '
            'SizeT="1"><TiffData IFD="0"><UUID FileName="others/secret.tif">urn:uuid:2</UUID></TiffData>'
            "</Pixels></Image></OME>"
        )
        path = tiff(tmp_path / "a.tif", np.full((20, 30), 10, dtype=np.uint8), description=xml, metadata=None)
        assert (tifffile.imread(path) == 200).all()
        assert (whole(path) == 10).all()
