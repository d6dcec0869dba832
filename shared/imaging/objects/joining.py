"""Joining the pieces of all blocks of an image to its objects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from shared.imaging.objects.heights import find_depth
from shared.imaging.objects.merging import CLOSED, Edges, Ints, in_order, merge
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.objects.seams import Border, Seams

Groups = NDArray[np.int32]

WHOLE = -1  # group of a piece that is an object as it is
NO_OBJECT = -2  # group of a piece of something in which no object may begin


@dataclass(frozen=True, eq=False)
class Joined:
    """Which pieces of which blocks are one object. Only pieces that were open take memory."""

    groups: int  # objects of more than one piece
    pieces: tuple[int, ...]  # of each block
    open: tuple[Ints, ...]  # of each block: the labels of its open pieces
    numbers: tuple[Groups, ...]  # of each block: the group of each open piece, 0 … `groups` − 1, WHOLE or NO_OBJECT

    def find_groups(self, block: int) -> Groups:
        """(pieces + 1,) the group of each label of a block, which is counted from 0 as the blocks were given."""
        groups = np.full(self.pieces[block] + 1, WHOLE, dtype=np.int32)
        groups[self.open[block]] = self.numbers[block]
        return groups


@dataclass(frozen=True, eq=False)
class _Meetings:
    """Pairs of pixels on either side of a line between two blocks."""

    edges: Edges  # between open pieces, counted over all blocks
    same: NDArray[np.bool_]  # (pairs,) whether one climbs to the other


def join(seams: Sequence[Seams], rules: ObjectRules) -> Joined:
    """Join the pieces of all blocks of an image, which may be given in any order.

    Groups are counted by their first pieces, block after block.

    Raises:
        ValueError: on the other side of a seam a block is missing, or saw something else.
    """
    starts = np.cumsum([0, *(seam.open.size for seam in seams)])
    meetings = _meet(seams, starts)
    parts = _unite(int(starts[-1]), meetings)
    tops = np.zeros(parts.max(initial=-1) + 1, dtype=np.int64)
    np.maximum.at(tops, parts, _string(seams, lambda seam: seam.tops))
    edges = _gather_edges(seams, starts, meetings).between(parts)
    merged = merge(tops, np.full_like(tops, CLOSED), edges, depth=find_depth(rules))
    numbers, groups = _number(merged.parts[parts], _string(seams, lambda seam: seam.seeded).astype(np.bool_))
    return Joined(
        groups=groups,
        pieces=tuple(seam.pieces for seam in seams),
        open=tuple(seam.open for seam in seams),
        numbers=tuple(np.split(numbers, starts[1:-1])) if seams else (),
    )


def _meet(seams: Sequence[Seams], starts: Ints) -> _Meetings:
    """Match what the blocks on either side of each seam saw, by its position."""
    positions = _string_borders(seams, lambda _, border: border.positions)
    order = np.argsort(positions, kind="stable")
    here, beyond = order[0::2], order[1::2]
    if positions.size % 2 or not np.array_equal(positions[here], positions[beyond]):
        raise ValueError("the blocks do not fit: one is missing, or two of them saw different images; label all again")
    nodes = starts[_string_borders(seams, lambda block, border: np.full(border.positions.size, block))]
    nodes += _string_borders(seams, lambda block, border: np.searchsorted(seams[block].open, border.pieces))
    heights = _string_borders(seams, lambda _, border: border.heights)
    across = _string_borders(seams, lambda _, border: border.across).astype(np.bool_)
    edges = Edges(nodes[here], nodes[beyond], np.minimum(heights[here], heights[beyond]), positions[here])
    return _Meetings(edges, across[here] | across[beyond])


def _gather_edges(seams: Sequence[Seams], starts: Ints, meetings: _Meetings) -> Edges:
    """All edges between open pieces, in order: what the blocks left undecided, and what touches across seams."""
    inner = [
        Edges(
            np.searchsorted(seam.open, seam.edges.first) + start,
            np.searchsorted(seam.open, seam.edges.second) + start,
            seam.edges.saddles,
            seam.edges.positions,
        )
        for seam, start in zip(seams, starts[:-1], strict=True)
    ]
    every = [*inner, meetings.edges]
    return in_order(
        Edges(
            np.concatenate([edges.first for edges in every]),
            np.concatenate([edges.second for edges in every]),
            np.concatenate([edges.saddles for edges in every]),
            np.concatenate([edges.positions for edges in every]),
        )
    )


def _number(parts: Ints, seeded: NDArray[np.bool_]) -> tuple[Groups, int]:
    """(pieces,) the group of each open piece, and how many groups there are; `parts` says which are one object."""
    _, first, owners, sizes = np.unique(parts, return_index=True, return_inverse=True, return_counts=True)
    begun = np.zeros(first.size, dtype=np.bool_)
    begun[owners[seeded]] = True
    several = np.flatnonzero(begun & (sizes > 1))
    groups = np.where(begun, WHOLE, NO_OBJECT).astype(np.int32)
    groups[several[np.argsort(first[several])]] = np.arange(several.size)
    return groups[owners], several.size


def _string(seams: Sequence[Seams], column: Callable[[Seams], NDArray[Any]]) -> Ints:
    """One column of all blocks, one after the other."""
    return np.concatenate([np.zeros(0, dtype=np.int64), *(column(seam) for seam in seams)])


def _string_borders(seams: Sequence[Seams], column: Callable[[int, Border], NDArray[Any]]) -> Ints:
    """One column of all sides of all blocks, one after the other; it is told which block a side is of."""
    columns = (column(block, border) for block, seam in enumerate(seams) for border in seam.borders.values())
    return np.concatenate([np.zeros(0, dtype=np.int64), *columns])


def _unite(count: int, meetings: _Meetings) -> Ints:
    """(count,) the number of the basin's part that each open piece is in, if only what climbs to another is one."""
    first, second = meetings.edges.first[meetings.same], meetings.edges.second[meetings.same]
    links = coo_array((np.ones(first.size, dtype=np.bool_), (first, second)), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)
