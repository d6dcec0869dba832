"""Outlines of objects along the edges of their pixels, and of objects from the outlines of their parts.

A corner is where the mixed difference SE − SW − NE + NW of an object's mask is not 0. That difference is linear: the
corners of an object are the corners of its runs, or of its parts, added up, and where two parts touch they cancel. A
value of ±1 is one corner, ±2 are two, where two pixels of one object touch diagonally. Along a line of the pixel grid
the corners of an object alternate between the beginnings and the ends of its edges, so sorting links them: row by row
for the horizontal edges, column by column for the vertical ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, depth_first_order

from shared.imaging.objects.runs import Labels, Runs, find_runs, split_by_objects
from shared.imaging.objects.table import Outlines

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Corners:
    """Terms of the mixed difference of objects, in any order, of one vertex as many as come."""

    objects: Indices  # (terms,) counted from 0
    x: Indices  # (terms,) px
    y: Indices  # (terms,) px
    positive: NDArray[np.bool_]  # (terms,) +1, else −1


def trace(labels: Labels, origin: tuple[int, int] = (0, 0)) -> Outlines:
    """The outlines of the objects 1 … n of `labels` (h, w), in this order; what lies outside belongs to none.

    `origin` is the row and the column of the first pixel in the image. Of a label that does not occur there is no ring.
    """
    return trace_runs(find_runs(labels), int(labels.max(initial=0)), origin)


def trace_runs(runs: Runs, count: int, origin: tuple[int, int] = (0, 0)) -> Outlines:
    """The outlines of `count` objects of which these are the runs. `origin` as for `trace`.

    Some thousand objects are linked at a time: of noise a block may hold millions.
    """
    batches = split_by_objects(runs, count)
    return Outlines.concatenate([_link(_find_corners(some, origin), number) for number, some in batches])


def _find_corners(runs: Runs, origin: tuple[int, int]) -> _Corners:
    top, left = runs.rows + origin[0], runs.starts + origin[1]
    bottom, right = top + 1, runs.stops + origin[1]
    return _Corners(
        objects=np.concatenate([runs.objects] * 4),
        x=np.concatenate([left, right, left, right]),
        y=np.concatenate([top, top, bottom, bottom]),
        positive=np.repeat([True, False, False, True], left.size),
    )


def join_outlines(parts: Sequence[Outlines], groups: Sequence[NDArray[np.integer]], count: int) -> Outlines:
    """The outlines of `count` objects of which the objects of `parts` are pieces that do not overlap.

    `groups` says for each part to which object, 0 … count − 1, each of its pieces belongs; −1 leaves a piece out. The
    result is what `trace` would have given for the whole, whatever the cuts.

    Raises:
        ValueError: an object has no piece, or a part not as many groups as pieces.
    """
    pieces = Outlines.concatenate(parts)
    owners = np.concatenate([np.empty(0, np.int64), *groups])
    rows = np.flatnonzero(owners >= 0)
    owners = owners[rows]
    sizes = np.bincount(owners, minlength=count)
    if len(pieces) != sum(map(len, groups)) or sizes.min(initial=1) == 0:
        raise ValueError("every piece needs a group, and every object a piece")
    is_whole = sizes[owners] == 1  # has nothing to be joined with: most objects lie within one block
    several = np.flatnonzero(sizes > 1)
    joined = _join(pieces.take(rows[~is_whole]), np.searchsorted(several, owners[~is_whole]), several.size)
    together = Outlines.concatenate([pieces.take(rows[is_whole]), joined])
    return together.take(np.argsort(np.concatenate([owners[is_whole], several])))


def _join(pieces: Outlines, owners: Indices, count: int) -> Outlines:
    """As `join_outlines`, of pieces that all belong to an object."""
    objects = np.repeat(owners, np.diff(pieces.rings[pieces.objects]))
    x, y = pieces.points.T.astype(np.int64)
    is_positive = np.arange(x.size) % 2 == 0  # rings begin with a horizontal edge, and edges alternate
    return _link(_Corners(objects, x, y, is_positive), count)


def _link(corners: _Corners, count: int) -> Outlines:
    """Closed rings of `count` objects from their corners."""
    if corners.x.size == 0:
        return Outlines(np.empty((0, 2), np.int32), np.zeros(1, np.int64), np.zeros(count + 1, np.int64))
    objects, x, y, sums = _add_up(corners)
    twice = np.abs(sums)
    is_second = np.arange(twice.sum()) - np.repeat(np.cumsum(twice) - twice, twice) == 1
    objects, x, y, sums = (np.repeat(column, twice) for column in (objects, x, y, sums))
    # Of the two corners at a vertex the first ends the edge to the left. It goes with the edge below if pixels NW and
    # SE are the object's, else with the one above: so a ring follows the hole, or the outside, that it bounds.
    is_lower = (np.abs(sums) == 2) & (is_second == (sums < 0))
    by_column = np.argsort(_pack(objects, x, y) * 2 + is_lower)
    above_or_below = np.empty_like(by_column)
    above_or_below[by_column[0::2]] = by_column[1::2]
    above_or_below[by_column[1::2]] = by_column[0::2]

    # From here on by horizontal edges: edge k joins the corners 2 k and 2 k + 1. It leaves the positive one.
    tails = np.flatnonzero(sums > 0)
    order, rings = _order_rings(above_or_below[tails ^ 1] // 2)
    tails = tails[order]
    points = np.stack([x, y], axis=1).astype(np.int32)[np.stack([tails, tails ^ 1], axis=1).ravel()]
    owners = np.bincount(objects[tails[rings[:-1]]], minlength=count)
    return Outlines(points, rings * 2, np.concatenate([[0], np.cumsum(owners)]))


def _add_up(corners: _Corners) -> tuple[Indices, Indices, Indices, Indices]:
    """Object, x, y and sum of the terms of each vertex where they do not cancel; ascending by object, y, x."""
    left, top = corners.x.min(), corners.y.min()
    width, height = corners.x.max() - left + 1, corners.y.max() - top + 1
    keys = ((corners.objects * height + corners.y - top) * width + corners.x - left) * 2 + corners.positive
    keys.sort()
    places = keys >> 1
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    sums = np.add.reduceat((keys & 1) * 2 - 1, starts)
    places, sums = places[starts[sums != 0]], sums[sums != 0]
    rows, x = np.divmod(places, width)
    objects, y = np.divmod(rows, height)
    return objects, x + left, y + top, sums


def _pack(objects: Indices, x: Indices, y: Indices) -> Indices:
    """Numbers that ascend by object, then x, then y."""
    left, top = x.min(), y.min()
    packed: Indices = (objects * (x.max() - left + 1) + x - left) * (y.max() - top + 1) + y - top
    return packed


def _order_rings(following: Indices) -> tuple[Indices, Indices]:
    """Edges in the order of their rings, each ring from its first edge on, and where each ring begins.

    `following` (edges,) is a permutation; its cycles are the rings, ascending by their first edge. Returned are
    (edges,) and (rings + 1,).
    """
    size = following.size
    ends = np.arange(size + 1)
    count, ring = connected_components(csr_array((np.ones(size), following, ends)), connection="strong")
    first = np.full(count, size)
    np.minimum.at(first, ring, ends[:-1])
    lengths = np.bincount(ring)[np.argsort(first)]
    heads = np.sort(first)
    # One long path through all rings, so that one walk orders them all: the last of each goes on to the next's first.
    last = np.empty(size, dtype=np.int64)
    last[following] = ends[:-1]
    path = following.copy()
    path[last[heads]] = np.append(heads[1:], heads[0])
    order = depth_first_order(csr_array((np.ones(size), path, ends)), heads[0], return_predecessors=False)
    return order.astype(np.int64), np.concatenate([[0], np.cumsum(lengths)])
