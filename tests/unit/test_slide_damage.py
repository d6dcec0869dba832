"""Bad images are refused with name, cause and mend; none does harm."""

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.slide_files import NOISE, aperio, lying_png, png, refusal, retag, saved, tiff


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
    "a TIFF of three hundred channels": (
        writes(FIVE.repeat(60, axis=2), photometric="minisblack", planarconfig="contig"),
        "300 channels, 200 is the limit; save those that are wanted",
    ),
    "a TIFF of many colour images": (
        writes(np.stack([NOISE] * 2), imagej=True, metadata={"axes": "CYXS"}),
        "2 colour images in one; submit each",
    ),
    "a Z stack": (of_z(6), r"a stack of 6 planes \(axis Z\); submit each plane"),
    "a TIFF of many pages": (writes(np.stack([NOISE[:, :, 0]] * 7), photometric="minisblack"), "a stack of 7 planes"),
    "a TIFF for printers": (writes(FIVE[:, :, :4], photometric="separated"), "colours of the kind SEPARATED; save it"),
    "a TIFF of complex numbers": (writes(NOISE[:, :, 0].astype(np.complex64)), "samples of the type complex64; save"),
    "a TIFF in JPEG XL": (
        writes(NOISE, photometric="rgb", tile=(64, 64), compression="jpegxl"),
        "compression JPEGXL; save it as RGB or grey, uncompressed",
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
