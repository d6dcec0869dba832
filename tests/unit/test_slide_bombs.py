"""Files that announce more than memory holds: refused with name, cause and mend, before anything is taken."""

import io
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from shared.errors import Rejected
from shared.slides import Limits, RangedSource, open_slide
from tests.slide_files import (
    NOISE,
    USERS_NAME,
    aperio,
    lying_png,
    png,
    refusal,
    retag,
    tiff,
)


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


def huge_tiles_in_a_small_level(path: Path) -> None:
    """A pyramid whose second level would be one tile of a million rows."""
    with tifffile.TiffWriter(path) as file:
        options: dict[str, Any] = {"tile": (256, 256), "compression": "jpeg", "photometric": "ycbcr", "metadata": None}
        file.write(NOISE.repeat(5, axis=0), subifds=1, **options)
        file.write(NOISE.repeat(5, axis=0)[::2, ::2], subfiletype=1, **options)
    with tifffile.TiffFile(path, mode="r+") as written:
        small: Any = written.series[0].levels[1].keyframe
        small.tags["TileLength"].overwrite(1_000_000)


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


def pages_in_a_circle(path: Path) -> None:
    """The second page names the first as the next one."""
    tifffile.imwrite(path, np.stack([NOISE[:, :, 0]] * 2), photometric="minisblack")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        second: Any = file.pages[1]
        struct.pack_into("<I", content, second.offset + 2 + 12 * len(second.tags), file.pages.first.offset)
    path.write_bytes(content)


def many_pages(path: Path) -> None:
    """An empty list of tags is six bytes, and counts as a page."""
    count = 200_000
    content = bytearray(struct.pack("<2sHI", b"II", 42, 8))
    for number in range(count):
        content += struct.pack("<HI", 0, 8 + 6 * (number + 1))
    path.write_bytes(content + bytes(6))


def page_of_many_tags(path: Path) -> None:
    tag = struct.pack("<HHII", 65_000, 3, 1, 0)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", 60_000) + tag * 60_000 + bytes(4))


def long_description(path: Path) -> None:
    """A file of 40 MB, nearly all of it the text of one tag."""
    tiff(path, NOISE, photometric="rgb", description="x" * 40_000_000, metadata=None)


def webp_tile_of_any_size(path: Path) -> None:
    lossy = {"level": 80, "lossless": False}
    tiff(path, NOISE, tile=(64, 64), compression="webp", compressionargs=lossy, photometric="rgb")
    with tifffile.TiffFile(path) as file:
        offset = file.pages.first.dataoffsets[0]
    content = bytearray(path.read_bytes())
    struct.pack_into("<HH", content, offset + 26, 16_383, 16_383)
    path.write_bytes(content)


def jpeg_tile_of_many_scans(path: Path) -> None:
    jpeg_of_many_scans(path)
    tile = path.read_bytes()
    options: dict[str, Any] = {"tile": (208, 160), "compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)}
    tifffile.imwrite(path, iter([tile]), shape=(208, 160, 3), dtype=np.uint8, **options)


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
    "a TIFF of huge tiles": (huge_tiles, "tiles of 40000 × 30000 px make up a level of 150 × 200"),
    "a TIFF of huge tiles in a small level": (huge_tiles_in_a_small_level, "tiles of 256 × 1000000 px make up"),
    "a TIFF with a JPEG of 12 GB in a tile": (jpeg_tile_of_any_size, "announces 65500 × 65500"),
    "a TIFF with a tag of any length": (tag_of_any_length, "open it in a viewer and save it again"),
    "a TIFF whose pages run in a circle": (pages_in_a_circle, "its list of pages runs in a circle"),
    "a TIFF of 200,000 pages": (many_pages, "it has more than 20000 pages"),
    "a TIFF of 60,000 tags": (page_of_many_tags, "a page has 60000 tags"),
    "a TIFF that is a text": (long_description, "its tag 270 announces 40000001 values"),
    "a TIFF with a WebP of 0.8 GB in a tile": (webp_tile_of_any_size, "announces 16383 × 16383"),
    "a TIFF with a JPEG of 3000 scans in a tile": (jpeg_tile_of_many_scans, "passes over the image"),
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

    @pytest.mark.parametrize("kind", [kind for kind in BOMBS if "TIFF" in kind or "slide" in kind])
    def test_it_is_refused_by_ranges_too_and_little_is_fetched(self, tmp_path: Path, kind: str) -> None:
        write, _ = BOMBS[kind]
        write(tmp_path / "bomb")
        content = (tmp_path / "bomb").read_bytes()
        source = RangedSource(lambda offset, count: content[offset : offset + count], len(content))
        with pytest.raises(Rejected), open_slide(source, name=USERS_NAME) as slide:
            slide.overview(64)
        assert source.bytes_fetched < 3_000_000

    def test_the_limit_is_a_setting(self, tmp_path: Path) -> None:
        path = png(tmp_path / "a.png", NOISE)
        assert "is the limit" in refusal(path, limits=Limits(decoded_bytes=100_000))
        assert "beyond what is taken" in refusal(path, limits=Limits(pixels=100))
        assert "beyond what is taken" in refusal(path, limits=Limits(side=199))
