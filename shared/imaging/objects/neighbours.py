"""How far it is from each object to the next, exactly, with no more than a few blocks looked at together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Figures = NDArray[np.float64]


class Neighbours:
    """The centroids of an image's objects, block by block.

    Where the blocks lie does not matter, only where their centroids do: an object of several blocks may be counted to
    any of them. Memory: 16 bytes an object, and the trees of one block and of what lies around it.
    """

    def __init__(self, blocks: Sequence[Figures]) -> None:
        """`blocks` are the centroids (n, 2) of each, px; some may have none."""
        self._blocks = [np.asarray(block, dtype=np.float64) for block in blocks]
        nowhere = np.full(2, np.nan)
        self._lowest = np.array([block.min(axis=0) if len(block) else nowhere for block in self._blocks])
        self._highest = np.array([block.max(axis=0) if len(block) else nowhere for block in self._blocks])

    def find_nearest(self, index: int) -> Figures:
        """From each object (n,) of block `index` the distance to the next centroid of the image, px; NaN of a lone one.

        Other blocks are asked in the order of their distance, until none can hold anything nearer.
        """
        own = self._blocks[index]
        if len(own) == 0:
            return np.empty(0)
        nearest = _look_around(own)
        gaps = self._measure_gaps(index)
        order = np.argsort(gaps)  # NaN, the blocks without objects, come last
        for other in order[: np.count_nonzero(~np.isnan(gaps))]:
            if gaps[other] >= nearest.max():
                break
            if other != index:
                self._look_into(int(other), own, nearest)
        return np.where(np.isinf(nearest), np.nan, nearest)

    def _measure_gaps(self, index: int) -> Figures:
        """The least distance (blocks,) that centroids of block `index` can have from those of each block."""
        apart = np.maximum(self._lowest - self._highest[index], self._lowest[index] - self._highest)
        gaps: Figures = np.hypot(*np.maximum(apart, 0).T)
        return gaps

    def _look_into(self, other: int, own: Figures, nearest: Figures) -> None:
        """Shortens `nearest` of the objects `own` where block `other` has something nearer."""
        apart = np.maximum(np.maximum(self._lowest[other] - own, own - self._highest[other]), 0)
        is_open = np.hypot(*apart.T) < nearest
        if not is_open.any():
            return
        asking = own[is_open]
        reach = nearest[is_open].max()
        there = self._blocks[other]
        near = np.all((there >= asking.min(axis=0) - reach) & (there <= asking.max(axis=0) + reach), axis=1)
        if near.any():
            found, _ = KDTree(there[near]).query(asking)
            nearest[is_open] = np.minimum(nearest[is_open], found)


def _look_around(own: Figures) -> Figures:
    """The distance (n,) to the next of the same block, ∞ of a lone one."""
    if len(own) < 2:
        return np.full(len(own), np.inf)
    distances, _ = KDTree(own).query(own, k=2)
    nearest: Figures = distances[:, 1]
    return nearest
