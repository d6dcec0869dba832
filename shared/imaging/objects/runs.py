"""The pixels of objects as runs: what lies side by side in a row.

A nucleus has some twenty runs where it has hundreds of pixels; areas, moments, boxes and outlines are all had from
runs alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint32]
Indices = NDArray[np.int64]

STRIP = 1 << 18  # pixels looked at together: what is made of them stays in the processor's cache
BATCH = 1 << 16  # runs linked to outlines together


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of pixels of one label, in reading order. Rows and columns are those of the label array."""

    objects: Indices  # (runs,) label − 1
    rows: Indices  # (runs,)
    starts: Indices  # (runs,) column of the first pixel
    stops: Indices  # (runs,) column after the last

    @property
    def lengths(self) -> Indices:
        """Pixels of each, (runs,)."""
        return self.stops - self.starts


def find_runs(labels: Labels) -> Runs:
    """The runs of all labels but 0 of `labels` (h, w)."""
    height, width = labels.shape
    rows_at_once = max(STRIP // max(width, 1), 1)
    parts = [_find_in_strip(labels[top : top + rows_at_once], top) for top in range(0, height, rows_at_once)]
    empty = np.empty((4, 0), dtype=np.int64)
    return Runs(*np.concatenate([empty, *parts], axis=1))


def split_by_objects(runs: Runs, count: int) -> Iterator[tuple[int, Runs]]:
    """The runs of some objects at a time: how many objects, and their runs, in which the first of them is object 0.

    `count` is the number of all. There are about `BATCH` runs at a time, more if an object has more.
    """
    order = np.argsort(runs.objects, kind="stable")
    ends = np.cumsum(np.bincount(runs.objects, minlength=count))
    borders = np.unique(np.searchsorted(ends, np.arange(BATCH, order.size, BATCH), side="right"))
    for first, last in pairwise(np.unique([0, *borders, count]).tolist()):
        places = order[ends[first - 1] if first else 0 : ends[last - 1]]
        yield (
            last - first,
            Runs(runs.objects[places] - first, runs.rows[places], runs.starts[places], runs.stops[places]),
        )


def _find_in_strip(labels: Labels, top: int) -> Indices:
    """Object, row, start and stop (4, runs) of the runs in these rows, the first of which is row `top`."""
    width = labels.shape[1]
    is_start = np.ones(labels.shape, dtype=np.bool_)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=is_start[:, 1:])
    starts = np.flatnonzero(is_start)
    stops = np.append(starts[1:], labels.size)
    owners = labels.reshape(-1)[starts]
    inside = owners > 0
    rows, columns = np.divmod(starts[inside], width)
    return np.stack([owners[inside].astype(np.int64) - 1, rows + top, columns, stops[inside] - rows * width])
