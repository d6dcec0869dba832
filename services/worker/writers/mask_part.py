"""What one block adds to the mask of its image, made where the block's classes are at hand."""

import json
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from services.worker.writers.mask import encode_tiles
from shared.imaging.tiling import Pixels

LENGTH = struct.Struct("<I")  # of the header


@dataclass(frozen=True)
class MaskPart:
    """Of a block; together the parts of an image are all that its mask file is made of."""

    foreground: int  # px
    tiles: list[bytes]  # of the mask file, row by row

    @classmethod
    def of(cls, classes: Pixels) -> Self:
        """From the classes (H, W) of the block."""
        return cls(int(np.count_nonzero(classes)), list(encode_tiles(classes)))

    def to_bytes(self) -> bytes:
        """One object for the store: header, tiles."""
        body = json.dumps({"foreground": self.foreground, "tiles": [len(tile) for tile in self.tiles]}).encode()
        return b"".join([LENGTH.pack(len(body)), body, *self.tiles])

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """What `to_bytes` wrote."""
        (length,) = LENGTH.unpack_from(content)
        start = LENGTH.size + length
        header = json.loads(content[LENGTH.size : start])
        ends = start + np.cumsum([0, *header["tiles"]])
        tiles = [content[first:last] for first, last in pairwise(ends)]
        return cls(header["foreground"], tiles)
