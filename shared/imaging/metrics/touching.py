"""Scores of objects that touch another: where telling objects apart is decided.

An image in which most objects stand alone hides what happens where they touch. So true objects are gathered into
clusters, and what was found is scored on those alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from shared.imaging.metrics.instances import Overlaps, Places, renumber
from shared.imaging.metrics.pixels import Labels

LONE = -1  # the cluster of an object that touches no other


@dataclass(frozen=True)
class CountError:
    """How wrongly the objects of clusters were counted. Adds up over images."""

    clusters: int = 0
    objects: int = 0  # true ones, in clusters
    missing: int = 0  # over the clusters in which too few were found
    surplus: int = 0  # over those in which too many were

    def __add__(self, other: "CountError") -> "CountError":
        return CountError(
            self.clusters + other.clusters,
            self.objects + other.objects,
            self.missing + other.missing,
            self.surplus + other.surplus,
        )

    @property
    def per_object(self) -> float:
        """The sum over clusters of |found − true|, by the number of true objects: 0 is right; 0 without clusters."""
        return (self.missing + self.surplus) / self.objects if self.objects else 0.0


def find_clusters(truth: Labels, *, gap: int = 0) -> Places:
    """For each object of a label image (H, W), ascending by label, the number of its cluster, from 0, or `LONE`.

    Two objects touch if pixels of theirs are neighbours, corners included, or if no more than `gap` pixels, counted
    along a row, a column or a diagonal, lie between them. A cluster is what is connected by touching.
    """
    labels, numbers = renumber(truth)
    one, other = _find_neighbours(numbers, reach=gap + 1)
    touching = np.zeros(labels.size, dtype=bool)
    touching[one], touching[other] = True, True
    graph = coo_array((np.ones(one.size, dtype=bool), (one, other)), shape=(labels.size, labels.size))
    _, components = connected_components(graph, directed=False)
    clusters = np.full(labels.size, LONE, dtype=np.intp)
    clusters[touching] = np.unique(components[touching], return_inverse=True)[1]
    return clusters


def assign_to_clusters(overlaps: Overlaps, clusters: Places) -> Places:
    """For each found object the cluster it was found in, or `LONE`; `clusters` are those of `find_clusters`.

    An object was found in clusters if these have half of its area or more; of several it counts for the one that has
    the most, of equals for the first. Whatever matches an object of a cluster by an IoU above 0.5 is found in clusters.
    """
    inside = clusters[overlaps.true] != LONE
    found, areas = overlaps.found[inside], overlaps.intersections[inside]
    count = overlaps.found_areas.size
    codes, places = np.unique(clusters[overlaps.true[inside]] * count + found, return_inverse=True)
    sums = np.bincount(places, weights=areas, minlength=codes.size)  # of each cluster and found object that overlap
    cluster, owner = codes // max(count, 1), codes % max(count, 1)
    order = np.lexsort((-cluster, sums, owner))
    assigned = np.full(count, LONE, dtype=np.intp)
    assigned[owner[order]] = cluster[order]  # of several, the last one written stays
    assigned[2 * np.bincount(found, weights=areas, minlength=count) < overlaps.found_areas] = LONE
    return assigned


def restrict_to_clusters(overlaps: Overlaps, clusters: Places) -> Overlaps:
    """The same comparison of the true objects in clusters, and of what was found in clusters, alone.

    Its average precision counts, of the true objects that touch another, those found (TP) and those not (FN), and
    objects found in clusters that match none of them (FP). Areas are those of whole objects, so IoUs stay as they are.
    """
    true, found = clusters != LONE, assign_to_clusters(overlaps, clusters) != LONE
    kept = true[overlaps.true] & found[overlaps.found]
    return Overlaps(
        overlaps.truth_areas[true],
        overlaps.found_areas[found],
        (np.cumsum(true) - 1)[overlaps.true[kept]],
        (np.cumsum(found) - 1)[overlaps.found[kept]],
        overlaps.intersections[kept],
    )


def count_in_clusters(overlaps: Overlaps, clusters: Places) -> CountError:
    """How many objects were found in each cluster, against how many there are."""
    size = int(clusters.max(initial=LONE)) + 1
    assigned = assign_to_clusters(overlaps, clusters)
    true = np.bincount(clusters[clusters != LONE], minlength=size)
    error = np.bincount(assigned[assigned != LONE], minlength=size) - true
    return CountError(
        clusters=size,
        objects=int(true.sum()),
        missing=int(-error[error < 0].sum()),
        surplus=int(error[error > 0].sum()),
    )


def count_merges(overlaps: Overlaps) -> int:
    """True objects that are lost in others: n − 1 for each found object that has more than half of n ≥ 1 true ones."""
    swallowed = 2 * overlaps.intersections > overlaps.truth_areas[overlaps.true]
    return _count_beyond_first(overlaps.found[swallowed])


def count_splits(overlaps: Overlaps) -> int:
    """Parts too many: n − 1 for each true object that has more than half of each of n ≥ 1 found ones."""
    inside = 2 * overlaps.intersections > overlaps.found_areas[overlaps.found]
    return _count_beyond_first(overlaps.true[inside])


def _count_beyond_first(owners: Places) -> int:
    return int(owners.size - np.unique(owners).size)


def _find_neighbours(numbers: Places, *, reach: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of objects, counted from 0, of which pixels lie `reach` or less apart, by row as by column.

    `numbers`: (H, W), from 1, 0 = background.
    """
    height, width = numbers.shape
    count = int(numbers.max(initial=0))
    codes = [np.empty(0, dtype=np.intp)]
    for down in range(min(reach, height - 1) + 1):
        for right in range(-min(reach, width - 1), min(reach, width - 1) + 1):
            here = numbers[: height - down, max(0, -right) : width - max(0, right)]
            there = numbers[down:, max(0, right) : width + min(0, right)]
            touch = (here != there) & (here > 0) & (there > 0)
            codes.append(np.unique((here[touch] - 1) * count + there[touch] - 1))
    pairs = np.unique(np.concatenate(codes))
    return pairs // max(count, 1), pairs % max(count, 1)
