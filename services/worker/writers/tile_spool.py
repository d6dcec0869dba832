"""Label pixels that come block by block, kept as compressed tiles until a TIFF can be strung together from them.

A TIFF lists the tiles of one level after the other, and each level row by row; blocks give squares of all levels in
turn. So compressed tiles wait in a temporary file, and memory holds where they lie.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Self

import imagecodecs
import numpy as np

from services.worker.writers.pyramid import TILE, Labels, LevelTile, LevelTiles, find_size, halve_labels
from shared.imaging.tiling import Box

IN_MEMORY = 2**24  # bytes; what a small image needs never touches the disk
LEVEL = 1  # of deflate, as for the mask


class TileSpool:
    """The tiles of `levels` of a label image of `height × width` px. To be closed, or used as a context manager."""

    def __init__(self, height: int, width: int, *, levels: int, folder: Path | None) -> None:
        """`folder`: where the temporary file goes once it is large; None: where the system has its own."""
        self._size, self._levels = (height, width), levels
        self._tiles = LevelTiles(size=(height, width), levels=range(levels), halve=halve_labels)
        self._places: dict[tuple[int, int, int], tuple[int, int]] = {}  # level, row, column → offset, length
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(folder) if folder else None)  # noqa: SIM115  # closed by `close`
        self._end = 0
        self._hash = sha256()

    def add(self, block: Box, labels: Labels) -> None:
        """Keep the labels (h, w) of a block. Each block once, in any order."""
        for tile in self._tiles.add(block, labels):
            self._keep(tile)

    def complete(self) -> None:
        """Keep what is left, once all blocks were given; whatever was not, is background."""
        for tile in self._tiles.finish():
            self._keep(tile)

    def take(self, level: int) -> Iterator[bytes]:
        """The compressed tiles of a level, row by row."""
        height, width = find_size(*self._size, level=level)
        for row in range(-(-height // TILE)):
            for column in range(-(-width // TILE)):
                yield self._read((level, row, column))

    @property
    def digest(self) -> str:
        """Tells the labels from others, once they are complete: the same ones in the same blocks have the same."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Forget the tiles."""
        self._file.close()

    def _keep(self, tile: LevelTile) -> None:
        if not tile.pixels.any():
            return
        body = compress(tile.pixels)
        self._file.seek(self._end)
        self._file.write(body)
        self._hash.update(body)
        self._places[tile.level, tile.row, tile.column] = self._end, len(body)
        self._end += len(body)

    def _read(self, key: tuple[int, int, int]) -> bytes:
        if key not in self._places:
            return _blank()
        offset, length = self._places[key]
        self._file.seek(offset)
        return self._file.read(length)


class SpooledFile(ABC):
    """A file that is written of all tiles when its context ends without an error."""

    def __init__(self, spool: TileSpool) -> None:
        self._spool = spool

    def add(self, block: Box, labels: Labels) -> None:
        """The labels (h, w) of a block, 0 = background. Blocks come in any order, each once; none given: background."""
        self._spool.add(block, labels)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._spool.complete()
                self._write()
        finally:
            self._spool.close()

    @abstractmethod
    def _write(self) -> None:
        """Write the file of the spool's tiles, which are complete."""


def compress(labels: Labels) -> bytes:
    """A tile of 512 × 512 px from labels (h, w), filled up with background."""
    height, width = labels.shape
    if (height, width) != (TILE, TILE):
        labels = np.pad(labels, ((0, TILE - height), (0, TILE - width)))
    return bytes(imagecodecs.deflate_encode(labels.astype("<u4", copy=False).tobytes(), level=LEVEL))


@cache
def _blank() -> bytes:
    return compress(np.zeros((TILE, TILE), dtype=np.uint32))
