"""PNGs and JPEGs of which something is missing are refused, however much; and refusing them costs no memory."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import psutil
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.annotations import read_values
from shared.errors import Rejected
from shared.imaging.normalisation import Samples
from shared.slides import open_slide
from shared.slides.png import decode_png
from tests.slide_files import NOISE, refusal, whole

LARGE = np.random.default_rng(2).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)  # 3 MB
TRIALS = 30
SMALL = Image.fromarray(NOISE[:40, :50])
JPEG_KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarting": {"restart_marker_blocks": 2},
}


def saved_as(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def encoded(shape: tuple[int, ...], dtype: type) -> bytes:
    return bytes(imagecodecs.png_encode((np.arange(np.prod(shape)) * 37).astype(dtype).reshape(shape)))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunk(content: bytes, before: bytes, name: bytes, body: bytes) -> bytes:
    """`content` with another chunk before the first one of that name."""
    place = content.index(before) - 4
    return content[:place] + chunk(name, body) + content[place:]


PNGS = {
    "8 bits": encoded((9, 7), np.uint8),
    "16 bits": encoded((9, 7), np.uint16),
    "grey with alpha": encoded((9, 7, 2), np.uint8),
    "grey with alpha in 16 bits": encoded((9, 7, 2), np.uint16),
    "RGB": encoded((9, 7, 3), np.uint8),
    "RGB in 16 bits": encoded((9, 7, 3), np.uint16),
    "RGBA": encoded((9, 7, 4), np.uint8),
    "RGBA of one column": encoded((9, 1, 4), np.uint8),
    "1 bit": saved_as(Image.fromarray(NOISE[:9, :7, 0] > 99), "PNG"),
    "a palette": saved_as(SMALL.quantize(100), "PNG"),
    "a palette of 4 bits": saved_as(SMALL.quantize(9), "PNG", bits=4),
    "a palette with transparency": saved_as(SMALL.quantize(100), "PNG", transparency=3),
    "grey with a transparent value": with_chunk(encoded((9, 7), np.uint8), b"IDAT", b"tRNS", b"\0\x25"),
    "RGB with a transparent colour": with_chunk(encoded((9, 7, 3), np.uint8), b"IDAT", b"tRNS", bytes(6)),
    "transparency at the wrong place": with_chunk(encoded((9, 7), np.uint8), b"IEND", b"tRNS", b"\0\x25"),
}


@pytest.mark.parametrize("kind", PNGS)
def test_a_png_s_samples_are_those_of_its_library(kind: str) -> None:
    expected: Samples = imagecodecs.png_decode(PNGS[kind])
    found = decode_png(PNGS[kind])
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("reads", ["as an image", "as a mask"])
@pytest.mark.parametrize("damage", ["cut off", "changed"])
def test_refusing_damaged_pngs_takes_no_memory_in_the_end(tmp_path: Path, reads: str, damage: str) -> None:
    content = bytearray(imagecodecs.png_encode(LARGE))
    content[len(content) * 3 // 4] ^= 1
    (tmp_path / "a.png").write_bytes(content if damage == "changed" else content[: len(content) * 3 // 4])
    refuse(tmp_path / "a.png", reads)
    before = psutil.Process().memory_info().rss
    for _ in range(TRIALS):
        refuse(tmp_path / "a.png", reads)
    assert psutil.Process().memory_info().rss - before < TRIALS * LARGE.nbytes / 4


def refuse(path: Path, reads: str) -> None:
    with pytest.raises(Rejected):
        open_slide(path) if reads == "as an image" else read_values(path, "mask")


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_png_that_is_cut_off_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    content = with_chunk(PNGS["RGB"], b"IEND", b"tEXt", b"Comment\0none")
    path = tmp_path_factory.mktemp("cut") / "sent"
    path.write_bytes(content[: int(len(content) * share)])
    refusal(path)


def test_a_png_with_something_behind_its_end_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(saved_as(SMALL, "PNG") + b"appended")
    np.testing.assert_array_equal(whole(tmp_path / "a.png"), np.asarray(SMALL))


def test_transparency_that_is_passed_over_is_refused_as_damage(tmp_path: Path) -> None:
    content = bytearray(PNGS["RGB with a transparent colour"])
    content[content.index(b"tRNS") + 5] ^= 1  # the checksum does not fit any more
    (tmp_path / "sent").write_bytes(content)
    assert "its transparency is damaged" in refusal(tmp_path / "sent")


@given(kind=st.sampled_from(sorted(JPEG_KINDS)), share=st.floats(0, 1, exclude_max=True))
def test_a_jpeg_that_is_cut_off_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, share: float
) -> None:
    content = saved_as(SMALL, "JPEG", **JPEG_KINDS[kind])
    path = tmp_path_factory.mktemp("cut") / "sent"
    path.write_bytes(content[: int(len(content) * share)])
    refusal(path)


@pytest.mark.parametrize("missing", [1, 2, 100, 1000])
def test_a_tile_in_jpeg_that_is_cut_off_is_refused(tmp_path: Path, missing: int) -> None:
    path = tmp_path / "sent"
    tifffile.imwrite(path, NOISE, tile=(64, 64), compression="jpeg", photometric="rgb")
    with tifffile.TiffFile(path, mode="r+") as file:
        counts = file.pages.first.databytecounts
        file.pages.first.tags["TileByteCounts"].overwrite((*counts[:5], counts[5] - missing, *counts[6:]))
    assert "the end of its JPEG is missing" in refusal(path)


def test_a_tile_in_jpeg_may_be_filled_up_behind_its_end(tmp_path: Path) -> None:
    tile = saved_as(Image.fromarray(NOISE[:64, :64]), "JPEG", subsampling=0)
    options: dict[str, Any] = {"tile": (64, 64), "compression": "jpeg", "photometric": "ycbcr", "subsampling": (1, 1)}
    for name, content in {"a.tif": tile, "b.tif": tile + bytes(500)}.items():
        tifffile.imwrite(tmp_path / name, iter([content]), shape=(64, 64, 3), dtype=np.uint8, **options)
    np.testing.assert_array_equal(whole(tmp_path / "b.tif"), whole(tmp_path / "a.tif"))
