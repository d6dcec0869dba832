"""The mask: a tiled TIFF of class numbers with a palette, so that both programs and eyes can read it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from services.worker.writers.palette import colour_table
from shared.imaging.tiling import Pixels

TILE = 512
CLASSIC_LIMIT = 2**31  # bytes; larger files are written as BigTIFF


def write_mask(path: Path, strips: Iterable[Pixels], *, height: int, width: int, mpp: float | None) -> None:
    """Write classes that come as strips (rows, width), top to bottom, each but the last a multiple of 512 px high.

    `mpp`: µm per pixel, stored as the resolution if known.
    """
    scale: dict[str, Any] = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
    with tifffile.TiffWriter(path, bigtiff=height * width > CLASSIC_LIMIT) as tiff:
        tiff.write(
            _tiles(strips),
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


def _tiles(strips: Iterable[Pixels]) -> Iterator[Pixels]:
    """Cut strips into whole tiles, row by row, the last ones filled up with background."""
    for strip in strips:
        height, width = strip.shape
        filled = np.pad(strip, ((0, -height % TILE), (0, -width % TILE)))
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                yield np.ascontiguousarray(filled[top : top + TILE, left : left + TILE])
