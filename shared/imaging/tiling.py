"""Where tiles lie and what they read: the geometry behind seamless overlap-tile inference.

A network with padded convolutions answers correctly for a pixel only if it saw everything within its halo, and only if
the tile's origin lies on the network's pooling grid. Give each tile a core it owns and a halo it merely reads, put the
origins on the grid, mirror at the image's border from real pixels, and the tiled answer *is* the whole-image answer
(Ronneberger et al. 2015, section 2, made exact).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels, half-open: rows top … bottom − 1, columns left … right − 1. May leave the image."""

    top: int
    left: int
    bottom: int
    right: int

    def __post_init__(self) -> None:
        if self.bottom <= self.top or self.right <= self.left:
            raise ValueError(f"an empty box: {self}")

    @property
    def height(self) -> int:
        """Rows, px."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns, px."""
        return self.right - self.left

    def grow(self, margin: int) -> "Box":
        """The box with `margin` px more on each side."""
        return Box(self.top - margin, self.left - margin, self.bottom + margin, self.right + margin)

    def intersect(self, other: "Box") -> "Box":
        """What both have in common. Raises ValueError if that is nothing."""
        return Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def move(self, down: int, right: int) -> "Box":
        """The box shifted by whole pixels."""
        return Box(self.top + down, self.left + right, self.bottom + down, self.right + right)

    def slices(self) -> tuple[slice, slice]:
        """Index of an array whose first two axes are rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True)
class Tile:
    """A square to predict. `read` is what the network sees, `write` is what it owns.

    The core's first pixel lies `halo` px inside `read`; `write` is the core, cut to the region that was planned.
    """

    read: Box  # may leave the image: the caller mirrors
    write: Box  # inside the region; the write boxes of a plan cover it exactly once


def plan_tiles(region: Box, *, core: int, halo: int) -> list[Tile]:
    """Cover `region` with tiles, row by row, from its top left corner.

    Every tile reads a square of `core + 2 halo` px, so one compiled shape serves all. The result is exact if `core`,
    `halo` and the region's origin are multiples of the network's grid.

    Raises:
        ValueError: `core` is not positive or `halo` is negative.
    """
    if core <= 0 or halo < 0:
        raise ValueError(f"a tile needs a positive core and a halo of 0 or more, got core {core}, halo {halo}")
    return [
        Tile(
            read=Box(top, left, top + core, left + core).grow(halo),
            write=Box(top, left, min(top + core, region.bottom), min(left + core, region.right)),
        )
        for top in range(region.top, region.bottom, core)
        for left in range(region.left, region.right, core)
    ]


def plan_blocks(height: int, width: int, *, side: int) -> Iterator[Box]:
    """Cut an image of `height × width` px into blocks of at most `side × side` px, row by row."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield Box(top, left, min(top + side, height), min(left + side, width))


def choose_core(height: int, width: int, *, cores: Sequence[int], halo: int) -> int:
    """The core with which the tiles of a `height × width` image read the fewest pixels (the larger one if equal)."""

    def pixels_read(core: int) -> int:
        tiles = -(-height // core) * -(-width // core)
        return tiles * (core + 2 * halo) ** 2

    return min(sorted(cores, reverse=True), key=pixels_read)


def reflect(start: int, stop: int, *, size: int) -> NDArray[np.intp]:
    """Indices start … stop − 1 folded into 0 … size − 1 by mirroring about the first and the last pixel.

    The border pixel itself is not doubled (numpy's pad mode "reflect"), however far the range leaves the image; an
    image of one pixel repeats it.
    """
    if size == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (size - 1)
    folded = np.arange(start, stop) % period
    return np.minimum(folded, period - folded).astype(np.intp)


def read_mirrored(image: Pixels, box: Box) -> Pixels:
    """The pixels of `box` from `image` (H, W, C), mirrored where the box leaves the image. Always a contiguous copy."""
    return mirror_read(lambda inside: image[inside.slices()], box, height=image.shape[0], width=image.shape[1])


def mirror_read(read: Callable[[Box], Pixels], box: Box, *, height: int, width: int) -> Pixels:
    """The pixels of `box`, mirrored at the image's border, by one call of `read` with a box inside the image.

    `read` returns (box.height, box.width, C). Only the needed part of the image is asked for.
    """
    rows = reflect(box.top, box.bottom, size=height)
    columns = reflect(box.left, box.right, size=width)
    inside = Box(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
    pixels = read(inside)
    if inside == box:
        return np.array(pixels, order="C")
    tall = pixels if box.height == inside.height and box.top == inside.top else pixels.take(rows - inside.top, axis=0)
    return np.ascontiguousarray(tall.take(columns - inside.left, axis=1))
