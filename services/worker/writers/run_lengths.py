"""Objects as COCO's run lengths, from their outlines: no object is ever drawn."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.worker.writers.outline_text import pack_rows
from shared.imaging.objects.table import Outlines

_LETTERS = 13  # of five bits: enough for any int64
_FIRST = 48  # "0" stands for five zero bits


def spell_runs(outlines: Outlines, *, height: int, width: int) -> pa.StringArray:
    """The compressed `counts` of each object: pixels off, on, off, … column by column of an image of (height, width).

    As in maskApi of the COCO API: a count is told as its difference from the one before the last, five bits a letter.
    """
    places, starts = _end_runs(*_find_changes(outlines, height), size=height * width)
    counts = np.diff(places, prepend=0)
    counts[starts[:-1]] = places[starts[:-1]]
    nth = np.arange(len(counts)) - np.repeat(starts[:-1], np.diff(starts))
    earlier = np.roll(counts, 2)
    return _spell(np.where(nth > 2, counts - earlier, counts), starts)


def _find_changes(outlines: Outlines, height: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each object begins and ends to be on, going down column by column; and where each object's places begin.

    Every horizontal edge of an outline turns the object on or off in all columns it spans.
    """
    owner, left, right, row = _horizontal_edges(outlines)
    widths = right - left
    within = np.arange(widths.sum()) - np.repeat(np.cumsum(widths) - widths, widths)
    places = (np.repeat(left, widths) + within) * height + np.repeat(row, widths)
    owners = np.repeat(owner, widths)
    order = np.lexsort((places, owners))
    places, owners = places[order], owners[order]
    kept = _drop_pairs(places, owners)
    return places[kept], np.searchsorted(owners[kept], np.arange(len(outlines) + 1))


def _end_runs(
    places: NDArray[np.int64], starts: NDArray[np.int64], *, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """With the run after the object, up to the last of the image's `size` px: readers may not fill up by themselves."""
    ends = starts[1:]
    short = places[ends - 1] < size
    return np.insert(places, ends[short], size), starts + np.concatenate([[0], np.cumsum(short)])


def _drop_pairs(places: NDArray[np.int64], owners: NDArray[np.int64]) -> NDArray[np.bool_]:
    """All but those told twice: off at the bottom of a column and on at the top of the next is no change."""
    twice = (places[1:] == places[:-1]) & (owners[1:] == owners[:-1])
    kept: NDArray[np.bool_] = ~(np.append(twice, False) | np.insert(twice, 0, False))
    return kept


def _horizontal_edges(
    outlines: Outlines,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of each edge the object, the first column, the one after the last, and the row below it."""
    points = outlines.points.astype(np.int64)
    following = np.arange(1, len(points) + 1)
    following[outlines.rings[1:] - 1] = outlines.rings[:-1]
    x, y = points.T
    x_next, y_next = points[following].T
    level = y == y_next
    owner = np.repeat(np.arange(len(outlines)), np.diff(outlines.rings[outlines.objects]))
    return owner[level], np.minimum(x, x_next)[level], np.maximum(x, x_next)[level], y[level]


def _spell(values: NDArray[np.int64], starts: NDArray[np.int64]) -> pa.StringArray:
    letters = np.zeros((len(values), _LETTERS), dtype=np.uint8)
    going = np.ones(len(values), dtype=bool)
    for place in range(_LETTERS):
        bits, values = values & 31, values >> 5
        more = values != np.where(bits & 16, -1, 0)
        letters[going, place] = (_FIRST + bits + 32 * more)[going]
        going = going & more
    return pack_rows(letters.view(f"V{_LETTERS}").ravel(), starts)
