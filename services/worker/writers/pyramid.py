"""Levels of an image, each half as high and wide as the one before: what a viewer shows from further away.

A pixel of a level stands for 2 × 2 pixels of the level below, counted from the image's corner; of what lies beyond the
lower and right border there is nothing to stand for. So a level follows from the one below piece by piece, wherever
that was cut, as long as the cuts lie at even places.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.imaging.tiling import Box, Pixels, plan_blocks

SMALL = 512  # px; an image no longer than that is seen at a glance, and needs no further level
TILE = 512  # px; side of the squares that levels are stored in

Labels = NDArray[np.uint32]
Planes = NDArray[Any]  # (..., H, W)
Halve = Callable[[Planes], Planes]


def count_levels(height: int, width: int) -> int:
    """How many levels an image of `height × width` px has: the last one is no longer than 512 px."""
    levels = 1
    while max(find_size(height, width, level=levels - 1)) > SMALL:
        levels += 1
    return levels


def find_size(height: int, width: int, *, level: int) -> tuple[int, int]:
    """Height and width of a level, px."""
    return -(-height // 2**level), -(-width // 2**level)


def scale_down(place: Box, levels: int) -> Box:
    """Where a place of one level is seen so many levels further up. Its corner must lie at a multiple of 2^levels."""
    bottom, right = find_size(place.bottom, place.right, level=levels)
    return Box(place.top >> levels, place.left >> levels, bottom, right)


def halve_means(planes: Pixels) -> Pixels:
    """Each 2 × 2 pixels of (..., H, W) become their mean, rounded half up; at a border, that of those that are there.

    Means alone would not do for what is to be measured, but levels are for the eye.
    """
    even = _fill_up(planes)
    total = even[..., 0::2, 0::2].astype(np.uint16)
    for rows, columns in ((0, 1), (1, 0), (1, 1)):
        total += even[..., rows::2, columns::2]
    return np.asarray((total + 2) >> 2, dtype=np.uint8)


def halve_labels(labels: Labels) -> Labels:
    """Each 2 × 2 pixels of (H, W) become the label that most of them have; an object wins against the background.

    Two pixels of the four suffice for an object, of equals the first in reading order is taken. The top left pixel
    alone, as is usual, would lose every second line one pixel wide, and with it the thin parts that hold an object
    together; one pixel sufficing would make everything grow by a pixel each time, until gaps are gone.
    """
    even = _fill_up(labels)
    four = [even[rows::2, columns::2] for rows in (0, 1) for columns in (0, 1)]
    halved = np.ascontiguousarray(four[0])
    mixed = np.flatnonzero((four[0] != four[1]) | (four[0] != four[2]) | (four[0] != four[3]))
    if mixed.size:  # a few in a hundred
        halved.reshape(-1)[mixed] = _choose(np.stack([corner.ravel()[mixed] for corner in four]))
    return halved


def _choose(four: Labels) -> Labels:
    """The most frequent label of each column of (4, n), by those rules."""
    same = (four[:, None] == four).sum(axis=1)
    same[four == 0] = 0
    chosen = np.take_along_axis(four, same.argmax(axis=0)[None], axis=0)[0]
    return np.where((four > 0).sum(axis=0) >= 2, chosen, 0).astype(four.dtype)


def _fill_up(planes: Planes) -> Planes:
    """With an even number of rows and columns: the last ones doubled, so that they count for what is missing."""
    odd = (planes.shape[-2] % 2, planes.shape[-1] % 2)
    if not any(odd):
        return planes
    return np.pad(planes, [(0, 0)] * (planes.ndim - 2) + [(0, odd[0]), (0, odd[1])], mode="edge")


@dataclass(frozen=True)
class LevelTile:
    """A square of a level, cut to the image."""

    level: int
    row: int  # of the squares of the level
    column: int
    pixels: Planes  # (..., h, w)


class LevelTiles:
    """Squares of some levels, each as soon as blocks have given all of its pixels.

    Blocks may come in any order, each once. Row by row, no more is held than a row of squares of each level.
    """

    def __init__(self, *, size: tuple[int, int], levels: range, halve: Halve) -> None:
        """`size` (height, width), px, is that of level 0. The blocks that come are of the first of the `levels`."""
        self._size, self._levels, self._halve = size, levels, halve
        self._open: dict[tuple[int, int, int], _Square] = {}

    def add(self, place: Box, pixels: Planes) -> Iterator[LevelTile]:
        """What the block (..., h, w) at `place` completes."""
        if self._levels:
            yield from self._add(self._levels.start, place, pixels)

    def finish(self) -> Iterator[LevelTile]:
        """The squares that lack some blocks: they are 0 there. Those that lack all are left out."""
        for level in self._levels:
            for key in sorted(key for key in self._open if key[0] == level):
                yield from self._give(key, self._open.pop(key))

    def _add(self, level: int, place: Box, pixels: Planes) -> Iterator[LevelTile]:
        for tile in self._squares_at(level, place):
            key = level, tile.top // TILE, tile.left // TILE
            common = tile.intersect(place)
            if key not in self._open:
                self._open[key] = _Square.empty(tile, pixels)
            square = self._open[key]
            square.paste(common, pixels[..., *common.move(-place.top, -place.left).slices()])
            if square.missing == 0:
                yield from self._give(key, self._open.pop(key))

    def _squares_at(self, level: int, place: Box) -> Iterator[Box]:
        """The squares that hold a part of a place, cut to the image."""
        whole = Box(0, 0, *find_size(*self._size, level=level))
        first = Box(place.top // TILE, place.left // TILE, -(-place.bottom // TILE), -(-place.right // TILE))
        for square in plan_blocks(first.height * TILE, first.width * TILE, side=TILE):
            yield square.move(first.top * TILE, first.left * TILE).intersect(whole)

    def _give(self, key: tuple[int, int, int], square: "_Square") -> Iterator[LevelTile]:
        yield LevelTile(*key, square.pixels)
        if key[0] + 1 in self._levels:
            yield from self._add(key[0] + 1, scale_down(square.place, 1), self._halve(square.pixels))


@dataclass
class _Square:
    place: Box
    pixels: Planes
    missing: int  # px that no block has given yet

    @classmethod
    def empty(cls, place: Box, like: Planes) -> "_Square":
        pixels = np.zeros((*like.shape[:-2], place.height, place.width), dtype=like.dtype)
        return cls(place, pixels, place.height * place.width)

    def paste(self, common: Box, pixels: Planes) -> None:
        self.pixels[..., *common.move(-self.place.top, -self.place.left).slices()] = pixels
        self.missing -= common.height * common.width
