"""Which basins are one object: those whose tops hardly stand out of the saddle between them.

The rule, for the whole image: edges between touching basins are taken from the highest saddle down (of equal ones the
first in the image). An edge makes one of its two sides unless both stand out of it by the depth; what has become one
has the higher top of the two (topological persistence, Edelsbrunner et al. 2002).

It is worked out by steps that change nothing of the result, in any order, so that a block can take those it knows
enough for and pass the rest on:

- Both tops stand out of an edge: it goes. Saddles only get lower and tops higher, it would never have counted.
- Two edges between the same sides: the later goes. Either the first made them one, or neither will.
- The highest edge of a basin that does not stand out of it: both become one at once. Until its turn the basin is
  alone, so it will not stand out then either; and at edges before, which are higher, its top would not have counted.

Where nothing is unknown, no edge is left.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

CLOSED = -1  # opening of a basin that touches nothing unknown
OPEN = 1 << 20  # above all heights: nothing is known for sure


@dataclass(frozen=True)
class Depth:
    """By how much a top must stand out of a saddle to stay apart: in proportion to itself, but at least so much."""

    least: int  # above 0
    per_mille: int = 0  # of the top, below 1000
    base: int = 0  # the height from which tops are measured for that


NEVER = Depth(1 << 20)  # whatever touches is one


@dataclass(frozen=True, eq=False)
class Edges:
    """Between touching basins, in the order in which they are taken: highest saddle first, then by position."""

    first: Ints  # (edges,) basin
    second: Ints  # (edges,) basin
    saddles: Ints  # (edges,) the lower height of the two pixels that touch
    positions: Ints  # (edges,) of the pair in the image: 2 × that of its first pixel, + 1 if the second lies below

    def __len__(self) -> int:
        return self.first.size

    def take(self, which: NDArray[np.bool_] | Ints) -> "Edges":
        """Some of them."""
        return Edges(self.first[which], self.second[which], self.saddles[which], self.positions[which])

    def between(self, basins: Ints) -> "Edges":
        """The same edges, between what their basins have become part of, `basins[basin]`."""
        return Edges(basins[self.first], basins[self.second], self.saddles, self.positions)


@dataclass(frozen=True, eq=False)
class Merged:
    """What n basins have become."""

    parts: Ints  # (n,) the basin that stands for all that are one with it
    tops: Ints  # (n,) its height; only of those that stand for others
    open: NDArray[np.bool_]  # (n,) may go on beyond what is known; only of those that stand for others
    edges: Edges  # undecided, between those that stand for others


def merge(tops: Ints, openings: Ints, edges: Edges, *, depth: Depth) -> Merged:
    """Make one what is surely one.

    Args:
        tops: (n,) height of each basin's top; of one whose top lies beyond what is known, the least it can be.
        openings: (n,) the highest saddle through which a basin may go on beyond what is known, or CLOSED, or OPEN.
        edges: in order.
        depth: by how much both tops must stand out of a saddle to stay apart.
    """
    tops, openings = tops.copy(), openings.copy()
    parts = np.arange(tops.size, dtype=np.int64)
    while True:
        edges = _drop(edges, tops, depth)
        pointers = _point_to_neighbours(tops, openings, edges, depth)
        if pointers is None:
            break
        parts = pointers[parts]
        np.maximum.at(tops, pointers, tops)
        np.maximum.at(openings, pointers, openings)
        edges = edges.between(pointers)
    opened = openings != CLOSED
    opened[edges.first] = True
    opened[edges.second] = True
    return Merged(parts, tops, opened, edges)


def stands_out(tops: Ints, saddles: Ints, depth: Depth) -> NDArray[np.bool_]:
    """Whether a top is one of its own above a saddle.

    What stands out of one must stand out of every lower one, and a higher top of all that a lower one does.
    """
    wanted = np.maximum((tops - depth.base) * depth.per_mille // 1000, depth.least)
    return np.asarray(tops - saddles >= wanted)


def in_order(edges: Edges) -> Edges:
    """The same edges, in the order in which they are taken."""
    return edges.take(np.lexsort((edges.positions, -edges.saddles)))


def follow(pointers: Ints) -> Ints:
    """(n,) where each ends that goes on from pointer to pointer, until one points to itself."""
    while True:
        further = pointers[pointers]
        if np.array_equal(further, pointers):
            return pointers
        pointers = further


def _drop(edges: Edges, tops: Ints, depth: Depth) -> Edges:
    """Without edges within one basin, those that both tops stand out of, and all but the first between the same two."""
    lower = np.minimum(tops[edges.first], tops[edges.second])
    edges = edges.take((edges.first != edges.second) & ~stands_out(lower, edges.saddles, depth))
    pairs = np.minimum(edges.first, edges.second) * tops.size + np.maximum(edges.first, edges.second)
    _, earliest = np.unique(pairs, return_index=True)
    return edges.take(np.sort(earliest))


def _point_to_neighbours(tops: Ints, openings: Ints, edges: Edges, depth: Depth) -> Ints | None:
    """(n,) which basin each becomes part of by its highest edge, itself if by none; None if all stay what they are."""
    count = len(edges)
    highest = np.full(tops.size, count, dtype=np.int64)
    order = np.arange(count, dtype=np.int64)
    np.minimum.at(highest, edges.first, order)
    np.minimum.at(highest, edges.second, order)
    basins = np.flatnonzero(highest < count)
    taken = highest[basins]
    sure = (openings[basins] < edges.saddles[taken]) & ~stands_out(tops[basins], edges.saddles[taken], depth)
    if not sure.any():
        return None
    basins, taken = basins[sure], taken[sure]
    pointers = np.arange(tops.size, dtype=np.int64)
    pointers[basins] = edges.first[taken] + edges.second[taken] - basins
    # Two may point at each other, by the same edge; longer rings cannot be, as each edge on the way is higher.
    mutual = (pointers[pointers[basins]] == basins) & (basins < pointers[basins])
    pointers[basins[mutual]] = basins[mutual]
    return follow(pointers)
