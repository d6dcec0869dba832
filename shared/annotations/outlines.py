"""Polygons as label images: of the whole, or of any part of a slide that is too large for it.

A pixel belongs to a polygon if its centre does: pixel (row r, column c) covers the square from (c, r) to
(c + 1, r + 1), its centre is (c + ½, r + ½). A centre exactly on an edge belongs to the polygon on its right, or
below. Rings of one polygon take turns (even–odd), so that holes are holes.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.annotations.merging import Canvas
from shared.annotations.run_lengths import Mask
from shared.imaging.tiling import Box

Ring = NDArray[np.float64]  # (corners, 2), x and y in px; the last corner is joined to the first
FURTHEST = 1e8  # px from the origin that a corner may lie
MOST_CORNERS = 10_000_000  # of one ring
MOST_CROSSINGS, AT_ONCE = 200_000_000, 250_000  # of edges with rows; a ring's outline is seldom longer than 10⁶ px
STRIP = 2**22  # px of an object that are drawn at once; as columns, since run lengths follow these


class Shape(Protocol):
    """An object that can be drawn."""

    @property
    def category(self) -> int:
        """Number of its class, 0 if it has none."""
        ...

    @property
    def box(self) -> Box | None:
        """All pixels of it lie in here; None if it has none."""
        ...

    @property
    def area(self) -> float:
        """About how many pixels it has; the same wherever it is drawn."""
        ...

    def cover(self, box: Box) -> Mask:
        """Which pixels (box.height, box.width) of a box belong to it."""
        ...

    def scale(self, down: float, across: float) -> "Shape":
        """About the same in an image whose height and width are so many times as large."""
        ...


@dataclass(frozen=True, eq=False)
class Outline:
    """One or more polygons that are one object: a pixel belongs to it if it lies in any of them."""

    polygons: tuple[tuple[Ring, ...], ...]  # each of an outer ring and holes
    category: int = 0

    @cached_property
    def box(self) -> Box | None:
        """The smallest rectangle of whole pixels around it."""
        return _surround([ring for polygon in self.polygons for ring in polygon])

    @cached_property
    def area(self) -> float:
        """Of all polygons, px², holes taken off."""
        return sum(max(_area(polygon[0]) - sum(_area(hole) for hole in polygon[1:]), 0.0) for polygon in self.polygons)

    def cover(self, box: Box) -> Mask:
        """By the centres of the pixels."""
        covered = np.zeros((box.height, box.width), bool)
        for polygon, around in zip(self.polygons, self._around, strict=True):
            inside = _overlap(around, box)
            if inside is not None:
                covered[inside.move(-box.top, -box.left).slices()] |= _fill(polygon, inside)
        return covered

    @cached_property
    def _around(self) -> list[Box | None]:
        """The box of each polygon by itself."""
        return [_surround(polygon) for polygon in self.polygons]

    def scale(self, down: float, across: float) -> "Outline":
        """The same corners, where they lie then."""
        factors = np.array([across, down])
        return Outline(tuple(tuple(ring * factors for ring in rings) for rings in self.polygons), self.category)


@dataclass(frozen=True, eq=False)
class Stamp:
    """An object given by its pixels, as runs over the whole image; of these only what is drawn is unpacked."""

    runs: tuple[int, ...]
    height: int
    width: int
    category: int = 0

    @cached_property
    def box(self) -> Box | None:
        """The columns that it touches; the rows, too, if none of its runs goes on in the next column."""
        on = np.flatnonzero(np.asarray(self.runs)[1::2])
        if not on.size:
            return None
        starts, ends = self._ends[2 * on], self._ends[2 * on + 1]
        left, right = starts // self.height, (ends - 1) // self.height
        top, bottom = (starts % self.height).min(), ((ends - 1) % self.height).max() + 1
        if (left < right).any():
            top, bottom = 0, self.height
        return Box(int(top), int(left[0]), int(bottom), int(right[-1]) + 1)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Where each run ends, px from the first, column by column."""
        return np.cumsum(np.asarray(self.runs, np.int64))

    @cached_property
    def area(self) -> float:
        """Its pixels."""
        return float(sum(self.runs[1::2]))

    def cover(self, box: Box) -> Mask:
        """Of a box inside the image."""
        first, last = box.left * self.height, box.right * self.height
        ends = np.clip(self._ends, first, last)
        lengths = ends - np.append(first, ends[:-1])
        columns = np.repeat(np.arange(lengths.size) % 2 == 1, lengths).reshape(box.width, self.height)
        return columns[:, box.top : box.bottom].T

    def scale(self, down: float, across: float) -> Outline:
        """The rectangle around it."""
        box = self.box
        corners = [[0, 0]] * 3 if box is None else _corners(box)
        return Outline(((np.array(corners) * np.array([across, down]),),), self.category)


def rasterise(
    shapes: Sequence[Shape],
    box: Box,
    places: Iterable[int] | None = None,
    *,
    check: Callable[[], None] | None = None,
) -> tuple[NDArray[np.int32], int]:
    """The objects within a box, as labels (box.height, box.width): object i has the number i + 1, 0 is background.

    Where two overlap, the smaller one has the pixels, of equals the earlier one: so a part of an image shows what the
    whole does. Also how many pixels of the box were wanted by more than one. `places`: of the objects that may touch
    the box, in their order, where that is known. `check` is called now and then, and may raise to break it off.
    """
    canvas = Canvas.blank(box.height, box.width)
    for place in range(len(shapes)) if places is None else places:
        shape = shapes[place]
        inside = _overlap(shape.box, box)
        for strip in _strips(inside) if inside is not None else ():
            if check is not None:
                check()
            window = strip.move(-box.top, -box.left).slices()
            canvas.paint(window, shape.cover(strip), size=shape.area, number=place + 1)
    return canvas.labels, canvas.contested


def to_ring(points: Any) -> Ring:
    """Corners from a list of [x, y, …], or from x and y in turn.

    Raises:
        ValueError: it is neither, or they lie beyond all images.
    """
    ring = np.asarray(points, dtype=np.float64)
    if ring.ndim == 1 and ring.size % 2 == 0:
        ring = ring.reshape(-1, 2)
    if ring.ndim != 2 or ring.shape[1] < 2 or not 3 <= ring.shape[0] <= MOST_CORNERS:
        raise ValueError(f"a ring of corners has the shape {ring.shape}")
    ring = ring[:, :2]
    if not (np.abs(ring) <= FURTHEST).all():
        raise ValueError("a corner lies beyond all images")
    return ring


def _surround(rings: Sequence[Ring]) -> Box | None:
    """The smallest rectangle of whole pixels around them; None if it has none."""
    corners = np.concatenate(rings)
    left, top = (math.floor(value) for value in corners.min(axis=0))
    right, bottom = (math.ceil(value) for value in corners.max(axis=0))
    return Box(top, left, bottom, right) if bottom > top and right > left else None


def _strips(box: Box) -> Iterator[Box]:
    """The box in strips of columns, `STRIP` px each."""
    width = max(STRIP // box.height, 1)
    for left in range(box.left, box.right, width):
        yield Box(box.top, left, box.bottom, min(left + width, box.right))


def _corners(box: Box) -> list[list[int]]:
    return [[box.left, box.top], [box.right, box.top], [box.right, box.bottom], [box.left, box.bottom]]


def _overlap(one: Box | None, other: Box) -> Box | None:
    if one is None:
        return None
    try:
        return one.intersect(other)
    except ValueError:
        return None


def _area(ring: Ring) -> float:
    """The shoelace formula, from the first corner, so that far from the origin nothing is lost to rounding."""
    x, y = (ring - ring[0]).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _fill(rings: Sequence[Ring], box: Box) -> Mask:
    """Even–odd: pixels with an odd number of edges to their left.

    Each edge is followed through the rows that it crosses, at the height of the pixels' centres; where it crosses is
    computed in the coordinates of the image, so that it does not depend on the box.
    """
    toggles = np.zeros((box.height, box.width + 1), np.uint8)  # beyond 255 they begin anew: even stays even
    for ring in rings:
        for rows, columns in _cross(ring, box):
            np.add.at(toggles.reshape(-1), (rows - box.top) * (box.width + 1) + columns - box.left, 1)
    np.cumsum(toggles, axis=1, dtype=np.uint8, out=toggles)
    toggles &= 1
    return toggles.view(bool)[:, :-1]


def _cross(ring: Ring, box: Box) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows in which edges are crossed, and the first columns whose centres lie right of them, some at a time."""
    following = np.roll(ring, -1, axis=0)
    falling = (ring[:, 1] <= following[:, 1])[:, None]  # from top to bottom, whichever polygon an edge belongs to
    start, end = np.where(falling, ring, following), np.where(falling, following, ring)
    first, last = (np.clip(np.ceil(y - 0.5), box.top, box.bottom).astype(np.int64) for y in (start[:, 1], end[:, 1]))
    ends = np.cumsum(last - first)
    if ends[-1] > MOST_CROSSINGS:
        raise ValueError(f"its edges cross {ends[-1]:,} rows")
    for piece in np.split(np.arange(len(ring)), np.searchsorted(ends, np.arange(AT_ONCE, ends[-1], AT_ONCE))):
        spans = (last - first)[piece]
        edges = np.repeat(piece, spans)
        rows = np.arange(edges.size) - np.repeat(np.cumsum(spans) - spans, spans) + first[edges]
        (x0, y0), (x1, y1) = start[edges].T, end[edges].T
        crossing = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        yield rows, np.clip(np.ceil(crossing - 0.5), box.left, box.right).astype(np.int64)
