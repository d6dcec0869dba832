"""The label image: a number per object, in a file that any program opens.

A PNG of 16 bits where that holds the image, for small images are looked at with small programs; a tiled TIFF of 32
bits where it does not.
"""

from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import tifffile
from PIL import Image

from services.worker.writers.pyramid import TILE, Labels
from services.worker.writers.tile_spool import SpooledFile, TileSpool
from shared.imaging.tiling import Box

LARGEST_PNG = 16_000_000  # px; it is held as a whole
MOST_OBJECTS = 2**16 - 1  # of a PNG
CLASSIC_LIMIT = 2**31  # bytes before compression; larger files are written as BigTIFF
PNG_LEVEL = 3  # of deflate


def is_png(height: int, width: int, *, objects: int) -> bool:
    """Whether a label image of so many objects is written as PNG; else as TIFF."""
    return height * width <= LARGEST_PNG and objects <= MOST_OBJECTS


class LabelPng:
    """A grey PNG of 16 bits: pixel value = label. For images that `is_png` names."""

    def __init__(self, file: BinaryIO, *, height: int, width: int, mpp: float | None) -> None:
        """`mpp`: µm per pixel, stored as the resolution if known."""
        self._file, self._mpp = file, mpp
        self._labels = np.zeros((height, width), dtype=np.uint16)

    def add(self, block: Box, labels: Labels) -> None:
        """Raises ValueError for labels that 16 bits do not hold."""
        largest = int(labels.max())
        if largest > MOST_OBJECTS:
            raise ValueError(f"label {largest} does not fit a PNG of 16 bits; write a TIFF")
        self._labels[block.slices()] = labels

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            scale: dict[str, Any] = {"dpi": (25_400 / self._mpp,) * 2} if self._mpp else {}
            Image.fromarray(self._labels).save(self._file, "PNG", compress_level=PNG_LEVEL, **scale)


class LabelTiff(SpooledFile):
    """A tiled, compressed grey TIFF of 32 bits: pixel value = label. For images of any size."""

    def __init__(
        self, file: BinaryIO, *, height: int, width: int, mpp: float | None, folder: Path | None = None
    ) -> None:
        """`mpp`: µm per pixel, stored as the resolution if known. `folder`: for temporary files."""
        super().__init__(TileSpool(height, width, levels=1, folder=folder))
        self._file, self._size, self._mpp = file, (height, width), mpp

    def _write(self) -> None:
        is_large = 4 * self._size[0] * self._size[1] > CLASSIC_LIMIT
        with tifffile.TiffWriter(self._file, bigtiff=is_large, byteorder="<") as tiff:
            tiff.write(self._spool.take(0), shape=self._size, metadata=None, **label_tags(self._mpp))


def label_tags(mpp: float | None) -> dict[str, Any]:
    """What tifffile is to be told about label pixels in tiles, whatever their level. `mpp`: that of the level."""
    scale: dict[str, Any] = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
    return {
        "dtype": np.uint32,
        "tile": (TILE, TILE),
        "compression": "zlib",
        "photometric": "minisblack",
        "software": "overtile",
        **scale,
    }
