"""The mask: a tiled TIFF of class numbers with a palette, so that both programs and eyes can read it.

Its tiles are compressed one by one, where the classes are found, and only strung together in the end.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile

from services.worker.writers.palette import colour_table
from shared.imaging.tiling import Box, Pixels

TILE = 512  # px
CLASSIC_LIMIT = 2**31  # bytes; larger files are written as BigTIFF
LEVEL = 1  # of deflate: a quarter of the time of level 6, files a sixth larger


def write_mask(target: Path | BinaryIO, tiles: Iterable[bytes], *, height: int, width: int, mpp: float | None) -> None:
    """Write tiles, as `encode_tiles` makes them, that cover `height × width` px row by row.

    `mpp`: µm per pixel, stored as the resolution if known.
    """
    scale: dict[str, Any] = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
    with tifffile.TiffWriter(target, bigtiff=height * width > CLASSIC_LIMIT) as tiff:
        tiff.write(
            iter(tiles),
            shape=(height, width),
            dtype=np.uint8,
            tile=(TILE, TILE),
            compression="zlib",
            photometric="palette",
            colormap=colour_table().T.astype(np.uint16) * 257,
            software="overtile",
            metadata=None,
            **scale,
        )


def encode_tiles(classes: Pixels) -> Iterator[bytes]:
    """Cut classes (H, W) into tiles of 512 px, row by row, the last ones filled up with background, and compress."""
    height, width = classes.shape
    filled = np.pad(classes, ((0, -height % TILE), (0, -width % TILE)))
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            tile = np.ascontiguousarray(filled[top : top + TILE, left : left + TILE])
            yield _compress(tile) if tile.any() else _blank()


def order_tiles(blocks: Iterable[tuple[Box, list[bytes]]]) -> Iterator[bytes]:
    """The tiles of blocks, which come row by row, in the order of the file: row by row through a whole row of blocks.

    The corners of the blocks lie at multiples of 512 px.
    """
    row: list[tuple[Box, list[bytes]]] = []
    for place, tiles in blocks:
        if row and place.left == 0:
            yield from _order_row(row)
            row = []
        row.append((place, tiles))
    yield from _order_row(row)


def _order_row(row: list[tuple[Box, list[bytes]]]) -> Iterator[bytes]:
    lines = [[tiles[start : start + count] for start in range(0, len(tiles), count)] for count, tiles in _columns(row)]
    for line in zip(*lines, strict=True):
        yield from chain.from_iterable(line)


def _columns(row: list[tuple[Box, list[bytes]]]) -> Iterator[tuple[int, list[bytes]]]:
    """How many columns of tiles each block has, and its tiles."""
    for place, tiles in row:
        yield -(-place.width // TILE), tiles


@cache
def _blank() -> bytes:
    """A tile of background: most of many a slide."""
    return _compress(np.zeros((TILE, TILE), dtype=np.uint8))


def _compress(tile: Pixels) -> bytes:
    return bytes(imagecodecs.deflate_encode(tile.tobytes(), level=LEVEL))
