"""Pictures to measure on: real tissue where there is some, drawn nuclei elsewhere."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from shared.imaging.drawing import draw_nuclei
from shared.imaging.tiling import Box, Pixels, read_mirrored
from shared.slides import open_slide

SLIDE = "slides/CMU-1-Small-Region.svs"
FORMATS = ("tiff", "png", "pyramid")
TILE = 256  # px
JPEG_QUALITY = 90
JPEG_TILES: dict[str, Any] = {
    "tile": (TILE, TILE),
    "compression": "jpeg",
    "compressionargs": {"level": JPEG_QUALITY},
    "photometric": "rgb",
}
MPP = 0.5
DRAWN_SIDE = 1024  # px
STEP = 131  # px between the pictures of one source: each is a file of its own to the platform
SMALL_SIDE, SMALL_STEP, SMALL_ROW = 256, 37, 100  # px; how many lie beside each other before the next row
SPARSE_TILE = 1024  # px
SPARSE_STEP = 2048  # px, the largest core of a tile
TISSUE_SHARE = 0.05  # of the tiles
DRAWN_TILES = 4
GLASS, GLASS_NOISE = 243, 1.5  # grey levels


def load_source(data: Path) -> tuple[str, Pixels]:
    """What to show a reader, and an image (H, W, 3): the slide in `data`, or a drawing if there is none."""
    path = data / SLIDE
    if not path.exists():
        return "drawn nuclei", draw_nuclei(DRAWN_SIDE, DRAWN_SIDE, seed=0, stain="histology")[0]
    with open_slide(path) as slide:
        return f"{path.name}, mirrored", slide.read(Box(0, 0, slide.height, slide.width))


def take_picture(source: Pixels, size: int, number: int) -> Pixels:
    """Picture `number` (size, size, 3): the source, mirrored as often as it takes."""
    corner = number * STEP
    return read_mirrored(source, Box(corner, corner, corner + size, corner + size))


def save_picture(picture: Pixels, path: Path, form: str) -> Path:
    """One of FORMATS: `tiff` and `pyramid` as scanners do, in JPEG tiles of 256 px. Returns the file, with its suffix.

    `pyramid`: down to a level of one tile, each half as large as the one before.
    """
    if form == "png":
        path = path.with_suffix(".png")
        Image.fromarray(np.asarray(picture)).save(path, compress_level=1)
        return path
    path = path.with_suffix(".tiff")
    levels = list(_halve(picture)) if form == "pyramid" else [picture]
    per_cm = 1e4 / MPP
    with tifffile.TiffWriter(path) as file:
        file.write(
            levels[0],
            subifds=len(levels) - 1,
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
            **JPEG_TILES,
        )
        for level in levels[1:]:
            file.write(level, subfiletype=1, **JPEG_TILES)
    return path


def save_sparse_slide(path: Path, pixels: float) -> int:
    """A square slide of about that many pixels, bare glass but for nuclei here and there, without ever holding it.

    In JPEG tiles, written one after the other from a few that are encoded beforehand. Returns its side, px: a multiple
    of a core, so that the platform cuts it into the same tiles whatever its size.
    """
    side = max(round(math.sqrt(pixels) / SPARSE_STEP), 1) * SPARSE_STEP
    generator = np.random.default_rng(0)
    noise = generator.normal(GLASS, GLASS_NOISE, (SPARSE_TILE, SPARSE_TILE, 3))
    glass = _encode_jpeg(np.clip(np.rint(noise), 0, 255).astype(np.uint8))
    nuclei = [
        _encode_jpeg(draw_nuclei(SPARSE_TILE, SPARSE_TILE, seed=seed, stain="histology")[0])
        for seed in range(DRAWN_TILES)
    ]

    def tiles() -> Iterator[bytes]:
        for _ in range((side // SPARSE_TILE) ** 2):
            yield nuclei[generator.integers(DRAWN_TILES)] if generator.random() < TISSUE_SHARE else glass

    tifffile.imwrite(
        path,
        tiles(),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(SPARSE_TILE, SPARSE_TILE),
        compression="jpeg",
        photometric="ycbcr",
        subsampling=(2, 2),  # as the encoder does by default
    )
    return side


def save_small_pictures(source: Pixels, folder: Path, count: int) -> None:
    """PNGs of 256 px, each another part of the source, mirrored where it ends."""
    for number in range(count):
        top, left = SMALL_STEP * (number // SMALL_ROW), SMALL_STEP * (number % SMALL_ROW)
        picture = read_mirrored(source, Box(top, left, top + SMALL_SIDE, left + SMALL_SIDE))
        (folder / f"{number:05}.png").write_bytes(imagecodecs.png_encode(picture, level=1))


def _encode_jpeg(tile: Pixels) -> bytes:
    return bytes(imagecodecs.jpeg_encode(tile, level=JPEG_QUALITY))


def _halve(picture: Pixels) -> Iterator[Pixels]:
    """The picture, and its levels down to one tile."""
    yield picture
    while max(picture.shape[:2]) > TILE:
        picture = np.asarray(Image.fromarray(picture).reduce(2))
        yield picture
