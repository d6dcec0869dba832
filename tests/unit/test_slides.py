"""Images as they come: unusual ones are read, bad ones are refused with name, cause and mend; none does harm."""

import io
import re
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from shared.errors import Rejected
from shared.imaging.tiling import Box, Pixels, mirror_read
from shared.slides import Limits, Slide, open_slide

SEED = np.random.default_rng(0)
NOISE = SEED.integers(0, 256, (200, 150, 3), dtype=np.uint8)
RAMP = np.arange(200 * 150, dtype=np.uint16).reshape(200, 150)  # 0 … 29,999
USERS_NAME = "my image.tif"


def whole(path: Path) -> Pixels:
    with open_slide(path) as slide:
        return read_all(slide)


def read_all(slide: Slide) -> Pixels:
    return slide.read(Box(0, 0, slide.height, slide.width))


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def png(path: Path, pixels: np.ndarray) -> Path:
    path.write_bytes(imagecodecs.png_encode(pixels))
    return path


def tiff(path: Path, pixels: np.ndarray, **options: object) -> Path:
    tifffile.imwrite(path, pixels, **options)  # type: ignore[arg-type]
    return path


def retag(path: Path, **values: object) -> None:
    """Overwrite tags of a TIFF's first page, whatever they lead to."""
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, value in values.items():
            file.pages.first.tags[name].overwrite(value)


def refusal(path: Path, *, name: str = USERS_NAME, limits: Limits | None = None) -> str:
    """What the user is told when the image is opened and read as a job does it."""

    def work() -> None:
        with open_slide(path, name=name, limits=limits) as slide:
            slide.overview(64)
            read_all(slide)

    with pytest.raises(Rejected) as caught:
        work()
    text = str(caught.value)
    assert text.startswith(name + ": ")
    assert str(path) not in text
    return text


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


def lying_png(path: Path, *, width: int, height: int) -> None:
    """A PNG of a few bytes that announces any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def lying_jpeg(width: int, height: int) -> bytes:
    """A JPEG of 64 × 64 px that announces any size."""
    file = io.BytesIO()
    Image.fromarray(NOISE[:64, :64]).save(file, "JPEG")
    content = bytearray(file.getvalue())
    struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, height, width)
    return bytes(content)


def jpeg_of_many_scans(path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    first, second = content.index(b"\xff\xda"), content.index(b"\xff\xda", content.index(b"\xff\xda") + 2)
    path.write_bytes(content[:second] + content[first:second] * 3000 + content[second:])


def jpeg_tile_of_any_size(path: Path) -> None:
    tile = lying_jpeg(65_500, 65_500)
    tifffile.imwrite(
        path, iter([tile]), shape=(64, 64, 3), dtype=np.uint8, tile=(64, 64), compression="jpeg", photometric="rgb"
    )


def one_strip(path: Path) -> None:
    """40,000 × 30,000 px of RGB in a strip of 3.6 GB, once decoded."""
    tiff(path, NOISE[:64, :64], compression="zlib", photometric="rgb")
    retag(path, ImageWidth=40_000, ImageLength=30_000, RowsPerStrip=30_000)


def huge_tiles(path: Path) -> None:
    tiff(path, NOISE, tile=(256, 256), compression="zlib", photometric="rgb")
    retag(path, TileWidth=40_000, TileLength=30_000)


def huge_slide_tiles(path: Path) -> None:
    aperio(path)
    retag(path, ImageWidth=40_000, ImageLength=40_000, TileWidth=40_000, TileLength=40_000)


def announcing_tiff(path: Path) -> None:
    tiff(path, NOISE, photometric="rgb")
    retag(path, ImageWidth=2**31, ImageLength=2**31)


def tag_of_any_length(path: Path) -> None:
    content = bytearray(tiff(path, NOISE, tile=(64, 64), compression="zlib", photometric="rgb").read_bytes())
    place = content.index(struct.pack("<HH", 324, 4))  # TileOffsets
    struct.pack_into("<I", content, place + 4, 2**32 - 1)
    path.write_bytes(content)


def aperio(path: Path) -> Path:
    about = "Aperio Image Library v1.0\r\n150x200 [0,0 150x200] (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
    options = {"compression": "jpeg", "photometric": "rgb", "metadata": None}
    return tiff(path, NOISE, tile=(64, 64), description=about, **options)


def slide_with_tile_of_any_length(path: Path) -> None:
    """OpenSlide would take memory for it, and end the process where there is none."""
    aperio(path)
    with tifffile.TiffFile(path) as file:
        counts = file.pages.first.databytecounts
    retag(path, TileByteCounts=(2**32 - 1, *counts[1:]))


BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a PNG of 10.8 GB": (lambda path: lying_png(path, width=60_000, height=60_000), "is the limit; save it as a tiled"),
    "a PNG beyond all bounds": (lambda path: lying_png(path, width=2**31 - 1, height=2**31 - 1), "beyond what is"),
    "a JPEG of 12 GB": (lambda path: path.write_bytes(lying_jpeg(65_500, 65_500)), "is the limit; save it as a tiled"),
    "a JPEG of 0.4 GB": (lambda path: path.write_bytes(lying_jpeg(6000, 6000)), "bytes cannot hold 6000 × 6000 px"),
    "a JPEG of 3000 scans": (jpeg_of_many_scans, "passes over the image"),
    "a TIFF beyond all bounds": (announcing_tiff, "beyond what is taken"),
    "a TIFF of one strip": (one_strip, "is the limit; save it with tiles"),
    "a TIFF of huge tiles": (huge_tiles, "is the limit; save it with tiles"),
    "a TIFF with a JPEG of 12 GB in a tile": (jpeg_tile_of_any_size, "announces 65500 × 65500"),
    "a TIFF with a tag of any length": (tag_of_any_length, "open it in a viewer and save it again"),
    "a slide of huge tiles": (huge_slide_tiles, "is the limit; export it with smaller tiles"),
    "a slide with a tile of any length": (slide_with_tile_of_any_length, "beyond the end of the file"),
}
ONE_PROCESS = """
import resource, sys
from pathlib import Path
from shared.errors import Rejected
from shared.slides import open_slide

resource.setrlimit(resource.RLIMIT_AS, (3_000_000_000, 3_000_000_000))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        with open_slide(path) as slide:
            slide.overview(64)
        raise SystemExit(f"{path.name} was taken")
    except Rejected:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


class TestBombs:
    @pytest.mark.parametrize("kind", BOMBS)
    def test_it_is_refused_by_name_cause_and_mend(self, tmp_path: Path, kind: str) -> None:
        write, cause = BOMBS[kind]
        write(tmp_path / "bomb")
        assert cause in refusal(tmp_path / "bomb")

    def test_no_memory_is_taken_for_what_they_announce(self, tmp_path: Path) -> None:
        for name, (write, _) in BOMBS.items():
            write(tmp_path / name)
        command = [sys.executable, "-c", ONE_PROCESS, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert int(done.stdout) < 100_000  # KiB

    def test_the_limit_is_a_setting(self, tmp_path: Path) -> None:
        path = png(tmp_path / "a.png", NOISE)
        assert "is the limit" in refusal(path, limits=Limits(decoded_bytes=100_000))
        assert "beyond what is taken" in refusal(path, limits=Limits(pixels=100))
        assert "beyond what is taken" in refusal(path, limits=Limits(side=199))


def cut(write: Callable[[Path], object], share: float) -> Callable[[Path], object]:
    def write_part(path: Path) -> None:
        write(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return write_part


def writes(pixels: np.ndarray, **options: object) -> Callable[[Path], object]:
    return lambda path: tiff(path, pixels, **options)


def taller_than_its_data(path: Path) -> None:
    """A PNG that announces more rows than it holds; some readers fill up with black."""
    content = bytearray(png(path, NOISE).read_bytes())
    struct.pack_into(">I", content, 20, 400)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    path.write_bytes(content)


def wider_than_its_tiles(path: Path) -> None:
    aperio(path)
    retag(path, ImageWidth=1000)


def contradictory(path: Path) -> None:
    tiff(path, NOISE, tile=(64, 64), compression="zlib", photometric="rgb")
    retag(path, TileWidth=0)


def of_z(depth: int) -> Callable[[Path], object]:
    return writes(np.stack([NOISE[:, :, 0]] * depth), imagej=True, metadata={"axes": "ZYX"})


TILED = {"tile": (64, 64), "compression": "zlib"}
FIVE = NOISE[:, :, :1].repeat(5, axis=2)
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: path.write_bytes(b""), r"is empty \(0 bytes\); upload it again"),
    "text": (lambda path: path.write_text("these are not pixels"), "not an image of a known format .* taken are PNG"),
    "a cut PNG": (cut(lambda path: png(path, NOISE), 0.5), "the PNG is damaged or cut off .*; export it again"),
    "the head of a PNG": (cut(lambda path: png(path, NOISE), 0.0003), "the PNG is damaged or cut off .*; export it"),
    "a PNG taller than its data": (taller_than_its_data, r"damaged or cut off \(Not enough image data\)"),
    "a PNG without pixels": (lambda path: lying_png(path, width=0, height=9), r"no pixels \(0 × 9\)"),
    "a cut JPEG": (
        cut(lambda path: saved(path, Image.fromarray(NOISE), format="JPEG"), 0.5),
        r"the JPEG is damaged or cut off \(image file is truncated",
    ),
    "a cut TIFF": (cut(writes(NOISE, photometric="rgb"), 0.5), "pixels end .* bytes beyond the end of the file"),
    "a cut TIFF of strips": (
        cut(writes(NOISE, rowsperstrip=8, compression="lzw", photometric="rgb"), 0.9),
        "bytes beyond the end of the file",
    ),
    "a cut TIFF of tiles": (cut(writes(NOISE, photometric="rgb", **TILED), 0.9), "bytes beyond the end of the file"),
    "the head of a TIFF": (cut(writes(NOISE, photometric="rgb"), 0.0015), "the TIFF is damaged, cut off"),
    "a cut slide": (cut(aperio, 0.5), "the slide cannot be read .* copy it again from the scanner"),
    "a slide wider than its tiles": (wider_than_its_tiles, "needs 64 tiles or strips, but 12 are listed"),
    "a TIFF with tiles of no width": (contradictory, "its header contradicts itself"),
    "a TIFF of two channels": (writes(FIVE[:, :, :2], photometric="minisblack", planarconfig="contig"), "2 channels"),
    "a TIFF of five channels": (writes(FIVE, photometric="minisblack", planarconfig="contig"), "5 channels; one"),
    "a TIFF of four stains": (
        writes(np.stack([NOISE[:, :, 0]] * 4), imagej=True, metadata={"axes": "CYX"}),
        "4 channels; one .* choose some and save again",
    ),
    "a Z stack": (of_z(6), r"a stack of 6 planes \(axis Z\); submit each plane"),
    "a TIFF of many pages": (writes(np.stack([NOISE[:, :, 0]] * 7), photometric="minisblack"), "a stack of 7 planes"),
    "a TIFF for printers": (writes(FIVE[:, :, :4], photometric="separated"), "colours of the kind SEPARATED; save it"),
    "a TIFF of complex numbers": (writes(NOISE[:, :, 0].astype(np.complex64)), "samples of the type complex64; save"),
    "a TIFF in WebP": (
        writes(NOISE, photometric="rgb", tile=(64, 64), compression="webp"),
        "compression WEBP; save it as RGB or grey, uncompressed",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_by_name_cause_and_mend(tmp_path: Path, kind: str) -> None:
    write, cause = REFUSED[kind]
    write(tmp_path / "sent")
    text = refusal(tmp_path / "sent")
    assert re.search(cause, text), text


def test_a_refused_file_is_not_kept_open(tmp_path: Path) -> None:
    for kind in ("a cut TIFF of tiles", "a Z stack", "a cut slide"):
        REFUSED[kind][0](tmp_path / "sent")
        refusal(tmp_path / "sent")
    descriptors = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert tmp_path / "sent" not in descriptors
