"""Basins: the pixels from which one climbs to the same top, and where they touch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.imaging.objects.heights import Heights
from shared.imaging.objects.merging import CLOSED, OPEN, Edges, Ints
from shared.imaging.objects.rules import Method
from shared.imaging.tiling import Box

Side = Literal["top", "left", "bottom", "right"]
Numbers = NDArray[np.int32]  # of the foreground's pixels, or one for each of them

SIDES: tuple[Side, ...] = ("top", "left", "bottom", "right")
PIXELS_AT_ONCE = 1 << 18  # what is worked out for them fits into a processor's cache


@dataclass(frozen=True, eq=False)
class Contacts:
    """Foreground pixels along one side of a block that touch foreground beyond it, from the first on."""

    positions: Ints  # (contacts,) of the pair of pixels in the image, as in `merging.Edges`
    basins: Ints  # (contacts,) of the pixel
    heights: Ints  # (contacts,) of the pixel
    saddles: Ints  # (contacts,) its height or that of the pixel beyond, whichever is lower
    across: NDArray[np.bool_]  # (contacts,) whether the pixel climbs to the one beyond


@dataclass(frozen=True, eq=False)
class Basins:
    """The foreground of a block: n pixels, row by row, in k basins."""

    places: Numbers  # (n,) of each pixel in the framed block, flattened
    basins: Numbers  # (n,) basin of each pixel
    tops: Ints  # (k,) height of the top; if it lies beyond the block, of the pixel from which one climbs there
    openings: Ints  # (k,) the highest saddle through which one may go on beyond the block, CLOSED or OPEN
    edges: Edges  # where basins touch; many between the same two
    contacts: dict[Side, Contacts]


@dataclass(frozen=True, eq=False)
class _Foreground:
    """The pixels of a framed block that belong to it and are foreground, numbered row by row."""

    heights: Heights  # (h + 2, w + 2) with the frame
    places: Numbers  # (n,)
    numbers: Numbers  # (h + 2, w + 2): of each pixel; background anything; the frame −1 − index of the side
    block: Box
    width: int  # of the image, px

    @property
    def below(self) -> int:
        """From the place of a pixel to that of the one below."""
        return int(self.heights.shape[1])

    def parts(self) -> Iterator[slice]:
        """The pixels, some at a time."""
        for start in range(0, self.places.size, PIXELS_AT_ONCE):
            yield slice(start, start + PIXELS_AT_ONCE)

    def find_positions(self, places: Ints, is_below: Ints | int) -> Ints:
        """Positions of pairs, as in `merging.Edges`, of a pixel and the one right of it or, if 1, below."""
        rows = places // self.below
        columns = places - rows * self.below
        pixels = (rows - 1 + self.block.top) * self.width + columns - 1 + self.block.left
        return np.asarray(pixels * 2 + is_below, dtype=np.int64)


def find_basins(framed: Heights, block: Box, width: int, method: Method) -> Basins:
    """Climb from each foreground pixel of a block to its top, or, of "components", find what is connected.

    The next pixel is the highest of the pixel itself and its four neighbours; of equally high ones the first in the
    order left, above, itself, below, right. So nobody goes round in circles, and a plateau may have several tops, with
    saddles as high as themselves in between.

    Args:
        framed: heights (h + 2, w + 2) of the block and of one pixel around, 0 where the image ends.
        block: where the block lies in the image.
        width: of the image, px.
        method: of "components" the foreground has to be as high everywhere.
    """
    foreground = _number(framed, block, width)
    uphill = _connect(foreground) if method == "components" else _climb(foreground)
    leaving = np.flatnonzero(uphill < 0)
    sides = -1 - uphill[leaving]
    uphill[leaving] = leaving
    _follow(uphill, foreground)
    peaks = np.flatnonzero(uphill == np.arange(uphill.size, dtype=np.int32))
    order = np.zeros(uphill.size, dtype=np.int32)
    order[peaks] = np.arange(peaks.size, dtype=np.int32)
    basins = order[uphill]
    contacts = {
        side: _find_contacts(foreground, basins, side, leaving[sides == index]) for index, side in enumerate(SIDES)
    }
    openings = np.full(peaks.size, CLOSED, dtype=np.int64)
    for contact in contacts.values():
        np.maximum.at(openings, contact.basins, np.where(contact.across, OPEN, contact.saddles))
    tops = framed.ravel()[foreground.places[peaks]].astype(np.int64)
    return Basins(foreground.places, basins, tops, openings, _find_edges(foreground, basins), contacts)


def _number(framed: Heights, block: Box, width: int) -> _Foreground:
    """Number the foreground of a framed block."""
    held = framed > 0
    held[[0, -1]] = False
    held[:, [0, -1]] = False
    places = np.flatnonzero(held).astype(np.int32)
    numbers = np.zeros(framed.shape, dtype=np.int32)
    numbers[0], numbers[:, 0], numbers[-1], numbers[:, -1] = -1, -2, -3, -4
    numbers.ravel()[places] = np.arange(places.size, dtype=np.int32)
    return _Foreground(framed, places, numbers, block, width)


def _climb(foreground: _Foreground) -> Numbers:
    """(n,) the number of the next pixel uphill, a top's own; −1 − index of the side if it lies beyond the block."""
    heights, numbers = foreground.heights.ravel(), foreground.numbers.ravel()
    uphill = np.empty(foreground.places.size, dtype=np.int32)
    for part in foreground.parts():
        here = foreground.places[part].astype(np.intp)
        target = here + 1
        highest = heights[target]
        for step in (foreground.below, 0, -foreground.below, -1):  # from the last of equals to the first
            height = heights[here + step]
            np.copyto(target, here + step, where=height >= highest)
            np.maximum(highest, height, out=highest)
        uphill[part] = numbers[target]
    return uphill


def _connect(foreground: _Foreground) -> Numbers:
    """(n,) the number of the first pixel of the component that each is in, by four neighbours."""
    held = foreground.heights[1:-1, 1:-1] > 0
    count, found = cv2.connectedComponents(held.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    components = np.asarray(found, dtype=np.int32)[held]
    first = np.full(count, components.size, dtype=np.int64)
    begins = np.flatnonzero(np.diff(components, prepend=-1))
    np.minimum.at(first, components[begins], begins)
    return first.astype(np.int32)[components]


def _follow(uphill: Numbers, foreground: _Foreground) -> None:
    """Let each pixel point to its top, twice as far at a time; in place, as there may be millions."""
    moved = True
    while moved:
        moved = False
        for part in foreground.parts():
            further = uphill[uphill[part]]
            moved = moved or not np.array_equal(further, uphill[part])
            uphill[part] = further


def _find_contacts(foreground: _Foreground, basins: Numbers, side: Side, across: NDArray[np.intp]) -> Contacts:
    """Where a side of the block touches foreground beyond it; `across` are the pixels that climb over it."""
    level = side in {"top", "bottom"}
    line, outer_line = (1, 0) if side in {"top", "left"} else (-2, -1)
    lines, numbers = (foreground.heights, foreground.numbers) if level else (foreground.heights.T, foreground.numbers.T)
    heights, beyond = lines[line, 1:-1].astype(np.int64), lines[outer_line, 1:-1].astype(np.int64)
    touching = np.flatnonzero((heights > 0) & (beyond > 0))
    pixels = numbers[line, 1:-1][touching]
    first = {"top": -foreground.below, "left": -1, "bottom": 0, "right": 0}[side]  # to the upper or left one of a pair
    return Contacts(
        foreground.find_positions(foreground.places[pixels].astype(np.int64) + first, int(level)),
        basins[pixels].astype(np.int64),
        heights[touching],
        np.minimum(heights, beyond)[touching],
        np.isin(pixels, across),
    )


def _find_edges(foreground: _Foreground, basins: Numbers) -> Edges:
    """The pairs of neighbouring pixels of different basins, in order."""
    heights, numbers = foreground.heights.ravel(), foreground.numbers.ravel()
    keys = [np.zeros(0, dtype=np.int64)]
    for part in foreground.parts():
        here = foreground.places[part].astype(np.intp)
        for is_below, step in enumerate((1, foreground.below)):
            beside, others = heights[here + step], numbers[here + step]
            touching = np.flatnonzero((beside > 0) & (others >= 0))
            touching = touching[basins[others[touching]] != basins[part][touching]]
            saddles = np.minimum(heights[here[touching]], beside[touching])
            pairs = basins[part][touching].astype(np.int64) << 32 | basins[others[touching]]
            later = (pairs[1:] == pairs[:-1]) & (saddles[1:] <= saddles[:-1])  # along a plateau, all but the first
            kept = np.concatenate([[True], ~later]) if touching.size else slice(0)
            keys.append((OPEN - saddles[kept].astype(np.int64)) << 32 | (touching[kept] + part.start) * 2 + is_below)
    key = np.sort(np.concatenate(keys))  # highest saddle first, then by position: faster than sorting by two columns
    pixels, is_below_each = (key & 0xFFFFFFFF) >> 1, key & 1
    places = foreground.places[pixels].astype(np.int64)
    neighbours = numbers[places + np.where(is_below_each, foreground.below, 1)]
    return Edges(
        basins[pixels].astype(np.int64),
        basins[neighbours].astype(np.int64),
        OPEN - (key >> 32),
        foreground.find_positions(places, is_below_each),
    )
