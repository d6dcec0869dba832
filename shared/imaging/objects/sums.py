"""Sums over the pixels of objects of what an image shows there."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.imaging.objects.grouping import Grouping
from shared.imaging.objects.runs import STRIP, Runs

Values = NDArray[Any]
Counts = NDArray[np.int64]
Figures = NDArray[np.float64]


def sum_runs(runs: Runs, planes: list[Values]) -> Counts:
    """Sums (runs, planes) of the values of each plane (h, w), of a type of up to 16 bits."""
    flat = [np.ascontiguousarray(plane).reshape(-1) for plane in planes]
    width = planes[0].shape[1]
    empty = np.empty((0, len(planes)), dtype=np.int64)
    sums = [
        np.stack([np.add.reduceat(plane[pixels], starts, dtype=np.int64) for plane in flat], axis=1)
        for pixels, starts in _walk(runs, width)
    ]
    return np.concatenate([empty, *sums])


def measure_channels(runs: Runs, grouping: Grouping, channels: Values) -> dict[str, Any]:
    """Counts, sums, sums of squares, lows and highs per object and channel."""
    flat = np.ascontiguousarray(channels).reshape(-1, channels.shape[2])
    parts = [_measure_values(flat[pixels].T, starts) for pixels, starts in _walk(runs, channels.shape[1])]
    empty = np.empty((5, 0, channels.shape[2]))
    counts, sums, squares, lows, highs = np.concatenate([empty, *parts], axis=1)
    return {
        "counts": grouping.add(counts).astype(np.int64),
        "sums": grouping.add(sums),
        "squares": grouping.add(squares),
        "lows": grouping.least(lows),
        "highs": grouping.greatest(highs),
    }


def _measure_values(values: Values, starts: NDArray[np.intp]) -> Figures:
    """Count, sum, sum of squares, low and high (5, runs, K) of values (K, pixels) that were read run after run."""
    lengths = np.diff(starts, append=values.shape[1])
    figures = np.empty((5, starts.size, values.shape[0]))
    for channel, column in enumerate(values):
        figures[:, :, channel] = _measure_channel(np.ascontiguousarray(column), starts, lengths)
    return figures


def _measure_channel(values: Values, starts: NDArray[np.intp], lengths: NDArray[np.intp]) -> Figures:
    """As `_measure_values`, of one channel (pixels,): (5, runs)."""
    is_narrow = values.dtype.kind in "biu" and values.dtype.itemsize <= 2
    exact = values.astype(np.int64 if is_narrow else np.float64)  # in 64-bit integers a run's sums are exact, and fast
    counts, lows, highs = lengths, exact, exact
    if exact.dtype.kind == "f" and not np.isfinite(exact).all():
        has_value = np.isfinite(exact)
        counts = np.add.reduceat(has_value, starts, dtype=np.int64)
        lows, highs = np.where(has_value, exact, np.inf), np.where(has_value, exact, -np.inf)
        exact = np.where(has_value, exact, 0)
    return np.stack(
        [
            counts.astype(np.float64),
            np.add.reduceat(exact, starts),
            np.add.reduceat(exact * exact, starts),
            np.minimum.reduceat(lows, starts),
            np.maximum.reduceat(highs, starts),
        ]
    )


def _walk(runs: Runs, width: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Runs by strips: the places of their pixels in an image of rows of `width` px, and where each run begins there."""
    ends = np.cumsum(runs.lengths)
    total = int(ends[-1]) if ends.size else 0
    borders = np.unique(np.searchsorted(ends, np.arange(0, total + STRIP, STRIP), side="right"))
    for first, last in pairwise(borders):
        lengths = runs.lengths[first:last]
        starts = np.cumsum(lengths) - lengths
        places = runs.rows[first:last] * width + runs.starts[first:last]
        yield np.arange(lengths.sum()) + np.repeat(places - starts, lengths), starts
