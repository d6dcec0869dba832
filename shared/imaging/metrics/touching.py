"""Scores of objects that touch another: where telling objects apart is decided.

An image in which most objects stand alone hides what happens where they touch. So true objects are gathered into
clusters, and what was found is scored on those alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from shared.imaging.metrics.instances import Overlaps, Places
from shared.imaging.metrics.pixels import Labels

STRIP = 1_000_000  # px that are looked at together: what is kept besides the image is small

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
    labels = _list_labels(truth)
    one, other = _find_neighbours(truth, labels, reach=gap + 1)
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


def _list_labels(truth: Labels) -> NDArray[np.signedinteger[Any]]:
    """The labels but 0 that occur (objects,), ascending."""
    found = [np.empty(0, dtype=truth.dtype)]
    for strip, _ in _cut(truth, 0):
        starts = np.ones(strip.shape, dtype=bool)
        starts[:, 1:] = strip[:, 1:] != strip[:, :-1]  # runs are far fewer than pixels to sort
        found.append(np.unique(strip[starts]))
    occurring = np.unique(np.concatenate(found))
    labels: NDArray[np.signedinteger[Any]] = occurring[occurring != 0]
    return labels


def _find_neighbours(
    truth: Labels, labels: NDArray[np.signedinteger[Any]], *, reach: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of objects, as places in `labels`, of which pixels lie `reach` or less apart, by row as by column."""
    width, count = truth.shape[1], labels.size
    codes = [np.empty(0, dtype=np.intp)]
    for strip, rows in _cut(truth, reach):
        for down in range(min(reach, strip.shape[0] - 1) + 1):
            for right in range(-min(reach, width - 1), min(reach, width - 1) + 1):
                last = min(rows, strip.shape[0] - down)
                here = strip[:last, max(0, -right) : width - max(0, right)]
                there = strip[down : down + last, max(0, right) : width + min(0, right)]
                touch = (here != there) & (here != 0) & (there != 0)
                places = (np.searchsorted(labels, side[touch]) for side in (here, there))
                codes.append(np.unique(next(places) * count + next(places)))
    pairs = np.unique(np.concatenate(codes))
    return pairs // max(count, 1), pairs % max(count, 1)


def _cut(image: Labels, more: int) -> Iterator[tuple[Labels, int]]:
    """Strips of whole rows with up to `more` rows of the next, and how many rows are their own."""
    rows = max(STRIP // max(image.shape[1], 1), 1)
    for top in range(0, image.shape[0], rows):
        yield image[top : top + rows + more], min(rows, image.shape[0] - top)
