"""What one block adds to the mask of its image, made where the block's classes are at hand."""

import json
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from services.worker.writers.mask import encode_tiles
from services.worker.writers.overlay import OverviewGrid
from shared.imaging.tiling import Box, Pixels

LENGTH = struct.Struct("<I")  # of the header


@dataclass(frozen=True)
class MaskPart:
    """Of a block; together the parts of an image are all that its mask file, overlay and figures are made of."""

    foreground: int  # px
    shown: Pixels  # the classes that the overview shows, (h, w), perhaps none
    tiles: list[bytes]  # of the mask file, row by row

    @classmethod
    def of(cls, classes: Pixels, place: Box, grid: OverviewGrid) -> Self:
        """From the classes (H, W) of the block at `place`."""
        return cls(int(np.count_nonzero(classes)), grid.pick(classes, place), list(encode_tiles(classes)))

    def to_bytes(self) -> bytes:
        """One object for the store: header, classes shown, tiles."""
        header = {"foreground": self.foreground, "shown": self.shown.shape, "tiles": [len(tile) for tile in self.tiles]}
        body = json.dumps(header).encode()
        return b"".join([LENGTH.pack(len(body)), body, self.shown.tobytes(), *self.tiles])

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """What `to_bytes` wrote."""
        (length,) = LENGTH.unpack_from(content)
        start = LENGTH.size + length
        header = json.loads(content[LENGTH.size : start])
        rows, columns = header["shown"]
        shown = np.frombuffer(content, dtype=np.uint8, count=rows * columns, offset=start).reshape(rows, columns)
        ends = start + rows * columns + np.cumsum([0, *header["tiles"]])
        tiles = [content[first:last] for first, last in pairwise(ends)]
        return cls(header["foreground"], shown, tiles)
