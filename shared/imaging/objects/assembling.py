"""The objects of an image from the pieces in its blocks: joined, selected by size, numbered, described."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shared.imaging.objects.joining import WHOLE, join
from shared.imaging.objects.measuring import Legend, finish, locate
from shared.imaging.objects.neighbours import Neighbours
from shared.imaging.objects.pieces import Pieces, merge
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.objects.seams import Seams
from shared.imaging.objects.table import ObjectTable
from shared.imaging.tiling import Box

Numbers = NDArray[np.uint32]
Load = Callable[[int], Pieces]

WAITING = 4096  # pieces of objects that go on elsewhere, before those are merged that are complete


@dataclass(frozen=True, eq=False)
class _Whole:
    """The objects of a block that are one piece."""

    rows: NDArray[np.int32]  # (n,) which pieces
    anchors: NDArray[np.int32]  # (n, 2) row, column
    centroids: NDArray[np.float64]  # (n, 2) x, y


@dataclass(frozen=True, eq=False)
class _Joined:
    """The objects of more than one piece."""

    pieces: Pieces  # (joined,) those that are kept
    numbers: NDArray[np.intp]  # (groups + 1,) which of these a group is, −1 if it was left out
    owned: list[NDArray[np.intp]]  # of each block those whose first pixel lies in it


@dataclass(frozen=True, eq=False)
class _Grid:
    """Where the blocks of an image lie: in rows and columns, some perhaps left out."""

    tops: NDArray[np.intp]
    lefts: NDArray[np.intp]
    numbers: NDArray[np.intp]  # (tops, lefts) of each block, −1 where there is none
    count: int

    @classmethod
    def of(cls, blocks: Sequence[Box]) -> "_Grid":
        tops, rows = np.unique([box.top for box in blocks], return_inverse=True)
        lefts, columns = np.unique([box.left for box in blocks], return_inverse=True)
        numbers = np.full((tops.size, lefts.size), -1, dtype=np.intp)
        numbers[rows, columns] = np.arange(len(blocks))
        return cls(tops, lefts, numbers, len(blocks))

    def find_owned(self, anchors: NDArray[np.int32]) -> list[NDArray[np.intp]]:
        """Of each block the anchors (n, 2), by their numbers, that lie in it."""
        rows = np.searchsorted(self.tops, anchors[:, 0], side="right") - 1
        columns = np.searchsorted(self.lefts, anchors[:, 1], side="right") - 1
        owners = self.numbers[rows, columns]
        order = np.argsort(owners, kind="stable")
        borders = np.searchsorted(owners[order], np.arange(self.count + 1))
        return [order[first:last] for first, last in pairwise(borders)]


class _Gathered:
    """The objects of more than one piece, merged as soon as the last block that holds a piece of them has come."""

    def __init__(self, groups: Sequence[NDArray[np.int32]], count: int) -> None:
        """`groups`: of each block the group of each piece, `count` in all."""
        self._groups = groups
        self._last = np.zeros(count, dtype=np.intp)  # block of each group's last piece
        for number, of in enumerate(groups):
            self._last[of[of >= 0]] = number
        self._waiting = list[tuple[Pieces, NDArray[np.int32]]]()
        self._merged = list[tuple[Pieces, NDArray[np.int32]]]()
        self._rows = 0

    def add(self, number: int, pieces: Pieces) -> None:
        """The pieces of a block; blocks come in order."""
        of = self._groups[number]
        shared = np.flatnonzero(of >= 0)
        self._waiting.append((pieces.take(shared), of[shared]))
        self._rows += shared.size
        if self._rows >= WAITING or number == len(self._groups) - 1:
            self._merge(number)

    def end(self) -> Pieces:
        """All of them, by group."""
        groups = np.concatenate([groups for _, groups in self._merged])
        return Pieces.concatenate([pieces for pieces, _ in self._merged]).take(np.argsort(groups))

    def _merge(self, number: int) -> None:
        """What is complete with this block; the rest goes on waiting."""
        pieces = Pieces.concatenate([pieces for pieces, _ in self._waiting])
        groups = np.concatenate([groups for _, groups in self._waiting])
        is_complete = self._last[groups] <= number
        complete, members = np.unique(groups[is_complete], return_inverse=True)
        self._merged.append((merge([pieces.take(np.flatnonzero(is_complete))], [members]), complete))
        left = np.flatnonzero(~is_complete)
        self._waiting = [(pieces.take(left), groups[left])]
        self._rows = 0


class Assembly:
    """All objects of an image, block by block.

    An object belongs to the block that holds its first pixel in reading order. Labels count from 1, block after block
    and within a block in the order of the first pixels, so the same blocks always give the same labels.

    Memory: the objects of more than one piece, 32 bytes for every other, and what `load` gives for one block.
    """

    def __init__(self, blocks: Sequence[Box], seams: Iterable[Seams], load: Load, rules: ObjectRules) -> None:
        """`blocks`: where something was looked for, with their `seams`; `load` gives the pieces of the block's number.

        Raises:
            ValueError: seams do not fit together.
        """
        self._load, self._rules = load, rules
        self._starts = np.zeros(1, dtype=np.int64)
        if not blocks:
            return
        joined = join(list(seams), rules)
        self._groups = [joined.find_groups(number)[1:] for number in range(len(blocks))]
        whole, self._joined = self._gather(joined.groups, _Grid.of(blocks))
        self._rows = [each.rows for each in whole]
        self._orders = [self._order(each, own) for each, own in zip(whole, self._joined.owned, strict=True)]
        self._starts = np.concatenate([[0], np.cumsum([order.size for order in self._orders], dtype=np.int64)])
        self._labels = self._number_joined()
        centroids = locate(self._joined.pieces)
        self._neighbours = Neighbours(
            [
                np.concatenate([each.centroids, centroids[own]])[order]
                for each, own, order in zip(whole, self._joined.owned, self._orders, strict=True)
            ]
        )

    def __len__(self) -> int:
        """How many objects there are."""
        return int(self._starts[-1])

    def describe(self, number: int, legend: Legend) -> tuple[ObjectTable, Numbers]:
        """The objects that belong to a block; and the label in the image of each label in the block, 0 of what is none.

        The second has an entry for 0, the background, too.
        """
        pieces, rows, order = self._load(number), self._rows[number], self._orders[number]
        joined = self._joined.pieces.take(self._joined.owned[number])
        objects = Pieces.concatenate([pieces.take(rows), joined]).take(order)
        labels = self._find_labels(number)
        nearest = self._neighbours.find_nearest(number)
        table = finish(objects, legend, labels=np.sort(labels), nearest=nearest)
        numbers = np.zeros(len(pieces) + 1, dtype=np.uint32)
        numbers[1:][rows] = labels[: rows.size]
        is_part = self._groups[number] >= 0
        places = self._joined.numbers[self._groups[number][is_part]]
        numbers[1:][is_part] = np.where(places >= 0, self._labels[places], 0)
        return table, numbers

    def _gather(self, groups: int, grid: _Grid) -> tuple[list[_Whole], _Joined]:
        """Look at the pieces of every block once."""
        whole, gathered = list[_Whole](), _Gathered(self._groups, groups)
        for number, of in enumerate(self._groups):
            pieces = self._load(number)
            rows = np.flatnonzero((of == WHOLE) & self._has_size(pieces)).astype(np.int32)
            kept = pieces.take(rows)
            whole.append(_Whole(rows, kept.anchors, locate(kept)))
            gathered.add(number, pieces)
        merged = gathered.end()
        kept_rows = np.flatnonzero(self._has_size(merged))
        numbers = np.full(groups + 1, -1, dtype=np.intp)  # one more, so that none is a case of its own
        numbers[kept_rows] = np.arange(kept_rows.size)
        objects = merged.take(kept_rows)
        return whole, _Joined(objects, numbers, grid.find_owned(objects.anchors))

    def _has_size(self, pieces: Pieces) -> NDArray[np.bool_]:
        most = self._rules.max_area
        return (pieces.areas >= self._rules.min_area) & (most is None or pieces.areas <= most)

    def _order(self, whole: _Whole, own: NDArray[np.intp]) -> NDArray[np.int32]:
        """In which order the objects of a block are numbered: those of its own, then the joined, by first pixels."""
        anchors = np.concatenate([whole.anchors, self._joined.pieces.anchors[own]])
        return np.lexsort((anchors[:, 1], anchors[:, 0])).astype(np.int32)

    def _find_labels(self, number: int) -> Numbers:
        """Labels of the objects of a block: those of its own, then the joined."""
        order = self._orders[number]
        labels = np.empty(order.size, dtype=np.uint32)
        labels[order] = self._starts[number] + np.arange(1, order.size + 1)
        return labels

    def _number_joined(self) -> Numbers:
        labels = np.zeros(len(self._joined.pieces) + 1, dtype=np.uint32)
        for number, (rows, own) in enumerate(zip(self._rows, self._joined.owned, strict=True)):
            labels[own] = self._find_labels(number)[rows.size :]
        return labels
