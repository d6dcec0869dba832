"""Images written as somebody might, and what becomes of them."""

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from shared.errors import Rejected
from shared.imaging.tiling import Box, Pixels
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


def lying_png(path: Path, *, width: int, height: int) -> None:
    """A PNG of a few bytes that announces any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def aperio(path: Path) -> Path:
    about = "Aperio Image Library v1.0\r\n150x200 [0,0 150x200] (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
    options = {"compression": "jpeg", "photometric": "rgb", "metadata": None}
    return tiff(path, NOISE, tile=(64, 64), description=about, **options)
