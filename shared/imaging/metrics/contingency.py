"""Which true and which found objects share pixels, counted block by block: objects of any size, images of any size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.imaging.metrics.instances import Overlaps
from shared.imaging.metrics.pixels import Labels, Mask, check_shapes

Keys = NDArray[np.uint64]
Counts = NDArray[np.int64]

_SHIFT, _LOW = np.uint64(32), np.uint64(2**32 - 1)
_PENDING = 4_000_000  # pairs that are kept apart before they are summed up: 64 MB


class Contingency:
    """Pixels by true and found object, of all pixels that lie in either. What is kept grows with the pairs alone."""

    def __init__(self) -> None:
        self._keys: list[Keys] = []
        self._counts: list[Counts] = []
        self._pending = 0

    def add(self, truth: Labels | Mask, found: Labels | Mask) -> None:
        """Count a block (h, w) of both, 0 = background, labels below 2³²; an object has one label in all blocks.

        Raises:
            ValueError: the shapes differ.
        """
        check_shapes(truth, found)
        pairs = (truth.astype(np.uint64) << _SHIFT) | found.astype(np.uint64)
        # Neighbours are mostly of one pair: runs are far fewer than pixels to sort.
        line = pairs.ravel()
        starts = np.flatnonzero(np.concatenate([np.ones(min(line.size, 1), bool), line[1:] != line[:-1]]))
        keys, counts = _sum_up(line[starts], np.diff(starts, append=line.size))
        occupied = keys > 0
        self._keys.append(keys[occupied])
        self._counts.append(counts[occupied])
        self._pending += int(np.count_nonzero(occupied))
        if self._pending > _PENDING:
            self._settle()

    def find_overlaps(self) -> Overlaps:
        """What `instances.find_overlaps` finds in the whole image."""
        keys, counts = self._settle()
        true, found = keys >> _SHIFT, keys & _LOW
        true_labels, found_labels = np.unique(true[true > 0]), np.unique(found[found > 0])
        both = (true > 0) & (found > 0)
        return Overlaps(
            _add_areas(true_labels, true, counts),
            _add_areas(found_labels, found, counts),
            np.searchsorted(true_labels, true[both]),
            np.searchsorted(found_labels, found[both]),
            counts[both],
        )

    def _settle(self) -> tuple[Keys, Counts]:
        """All pairs so far, ascending, each once."""
        none = np.zeros(0, np.int64)
        keys, counts = _sum_up(
            np.concatenate([none.astype(np.uint64), *self._keys]), np.concatenate([none, *self._counts])
        )
        self._keys, self._counts = [keys], [counts]
        # Pairs that are there to stay do not count: or the sum of a very crowded image would be made for each block.
        self._pending = 0
        return keys, counts


def _sum_up(keys: Keys, counts: NDArray[np.signedinteger[Any]]) -> tuple[Keys, Counts]:
    """Each key once, ascending, with the sum of its counts."""
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order].astype(np.int64)
    firsts = np.flatnonzero(np.concatenate([np.ones(min(keys.size, 1), bool), keys[1:] != keys[:-1]]))
    return keys[firsts], np.add.reduceat(counts, firsts) if firsts.size else counts


def _add_areas(labels: Keys, each: Keys, counts: Counts) -> Counts:
    """The areas (objects,) of the objects of these labels, from their part in each pair."""
    inside = each > 0
    areas = np.zeros(labels.size, np.int64)
    np.add.at(areas, np.searchsorted(labels, each[inside]), counts[inside])
    return areas
