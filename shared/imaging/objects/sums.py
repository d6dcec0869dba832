"""Sums over the pixels of objects of what an image shows there.

A strip of the image at a time, and of that a class, a plane or some channels: so that memory does not grow with them,
but for what is found out about each object.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.imaging.objects.runs import STRIP, Indices, Runs

TOGETHER = 8  # channels, which lie side by side in memory

Values = NDArray[Any]
Counts = NDArray[np.int64]
Figures = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Strip:
    """The pixels of some rows of an image, object after object."""

    rows: slice  # of the image
    places: NDArray[np.intp]  # (pixels,) in these rows
    starts: NDArray[np.intp]  # (m,) where in `places` each object begins
    objects: Indices  # (m,) which these are; no object twice

    def cut(self, plane: Values) -> Values:
        """The values (pixels, ...) of a plane (h, w, ...) of the image."""
        values: Values = plane[self.rows].reshape(-1, *plane.shape[2:])[self.places]
        return values

    def add(self, values: Values) -> Values:
        """The objects' sums (m,) of (pixels,), in 64-bit integers if these are integers."""
        sums: Values = np.add.reduceat(values, self.starts, dtype=np.float64 if values.dtype.kind == "f" else np.int64)
        return sums


def count_classes(runs: Runs, objects: int, classes: Values, class_count: int) -> Counts:
    """Pixels (objects, class_count) of each class, by the class (h, w) of each pixel."""
    counts = np.zeros((class_count, objects), dtype=np.int64)
    for strip in walk(runs, classes.shape[1]):
        found = strip.cut(classes)
        for index in range(class_count):
            counts[index, strip.objects] += strip.add(found == index)
    return counts.T.copy()


def sum_planes(runs: Runs, objects: int, planes: Values) -> Counts:
    """Sums (objects, planes) of the values of each of `planes` (planes, h, w), of a type of up to 16 bits."""
    sums = np.zeros((len(planes), objects), dtype=np.int64)
    for strip in walk(runs, planes.shape[2]):
        for index, plane in enumerate(planes):
            sums[index, strip.objects] += strip.add(strip.cut(plane))
    return sums.T.copy()


def measure_channels(runs: Runs, objects: int, channels: Values) -> dict[str, Values]:
    """Counts, sums, sums of squares, lows and highs (objects, K) of `channels` (h, w, K)."""
    count = channels.shape[2]
    figures = np.zeros((5, count, objects))
    figures[3], figures[4] = np.inf, -np.inf
    for strip in walk(runs, channels.shape[1]):
        for first in range(0, count, TOGETHER):
            for index, values in enumerate(strip.cut(channels[..., first : first + TOGETHER]).T, start=first):
                _measure(strip, np.ascontiguousarray(values), figures[:, index])
    counts, sums, squares, lows, highs = (figure.T.copy() for figure in figures)
    return {"counts": counts.astype(np.int64), "sums": sums, "squares": squares, "lows": lows, "highs": highs}


def _measure(strip: Strip, values: Values, figures: Figures) -> None:
    """Add to the count, sum, sum of squares, low and high (5, objects) of a channel its values (pixels,) in a strip."""
    is_narrow = values.dtype.kind in "biu" and values.dtype.itemsize <= 2
    exact = values.astype(np.int64 if is_narrow else np.float64)  # 64-bit integers make the sums exact, and fast
    counts, lows, highs = np.diff(strip.starts, append=values.size), exact, exact
    if exact.dtype.kind == "f" and not np.isfinite(exact).all():
        has_value = np.isfinite(exact)
        counts = strip.add(has_value)
        lows, highs = np.where(has_value, exact, np.inf), np.where(has_value, exact, -np.inf)
        exact = np.where(has_value, exact, 0)
    for figure, added in enumerate((counts, strip.add(exact), strip.add(exact * exact))):
        figures[figure, strip.objects] += added
    least, greatest = np.minimum.reduceat(lows, strip.starts), np.maximum.reduceat(highs, strip.starts)
    figures[3, strip.objects] = np.minimum(figures[3, strip.objects], least)
    figures[4, strip.objects] = np.maximum(figures[4, strip.objects], greatest)


def walk(runs: Runs, width: int) -> Iterator[Strip]:
    """The pixels of all runs of an image whose rows have `width` px, by strips of rows."""
    ends = np.cumsum(runs.lengths)
    total = int(ends[-1]) if ends.size else 0
    borders = np.unique(np.searchsorted(ends, np.arange(0, total + STRIP, STRIP), side="right"))
    for first, last in pairwise(borders):
        top = int(runs.rows[first])
        order = first + np.argsort(runs.objects[first:last], kind="stable")
        lengths = runs.lengths[order]
        starts = np.cumsum(lengths) - lengths
        places = (runs.rows[order] - top) * width + runs.starts[order]
        objects = runs.objects[order]
        is_first = np.diff(objects, prepend=-1) > 0
        yield Strip(
            slice(top, int(runs.rows[last - 1]) + 1),
            np.arange(lengths.sum()) + np.repeat(places - starts, lengths),
            starts[is_first],
            objects[is_first],
        )
