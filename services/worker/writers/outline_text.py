"""Outlines as text, many at a time: a loop over points would cost more than everything else about an object."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shared.imaging.objects.table import ObjectTable, Outlines

OBJECTS = 4096  # of a piece
POINTS = 1_000_000  # of a piece, unless a single object has more: some 20 MB of text


def split_table(table: ObjectTable) -> Iterator[ObjectTable]:
    """The table in pieces whose text is small, in order."""
    ends = table.outlines.rings[table.outlines.objects]
    start = 0
    while start < len(table):
        stop = int(np.searchsorted(ends, ends[start] + POINTS, side="right")) - 1
        stop = min(max(stop, start + 1), start + OBJECTS, len(table))
        columns = {name: column[start:stop] for name, column in table.columns.items()}
        yield ObjectTable(columns, table.outlines.take(np.arange(start, stop)))
        start = stop


def spell_polygons(outlines: Outlines) -> pa.StringArray:
    """The coordinates of a GeoJSON polygon for each object: rings of [x,y], the first point repeated at the end."""
    points, rings, objects = _close_rings(outlines)
    first, last = _ends(rings, len(points))
    opens, closes = _ends(rings[objects], len(points))
    before = np.array([b"[", b"[[", b"[[["]).take(first.astype(np.intp) + opens)
    after = np.array([b"],", b"]],", b"]]]"]).take(last.astype(np.intp) + closes)
    return _spell(points, before, after, rings[objects])


def spell_flat(outlines: Outlines) -> pa.StringArray:
    """The outer ring of each object as COCO lists it: [[x,y,x,y,…]]. The objects have no holes."""
    first, last = _ends(outlines.rings, len(outlines.points))
    before, after = np.array([b"", b"[["]).take(first), np.array([b",", b"]]"]).take(last)
    return _spell(outlines.points, before, after, outlines.rings)


def join_texts(texts: pa.StringArray) -> memoryview:
    """One text after the other, without making them Python's first. They are a whole array, not a slice of one."""
    return memoryview(texts.buffers()[2] or b"")


def pack_rows(rows: NDArray[np.void], starts: NDArray[np.int64]) -> pa.StringArray:
    """Rows of text, padded with NUL, as one text for each group of rows; the groups begin at `starts` (k + 1,)."""
    letters = np.frombuffer(rows, dtype=np.uint8)
    there = np.flatnonzero(letters)  # to take what is there is half the work of a mask
    ends = np.searchsorted(there, starts * rows.dtype.itemsize).astype(np.int32)
    return pa.StringArray.from_buffers(starts.size - 1, pa.py_buffer(ends), pa.py_buffer(letters[there]))


def _spell(
    points: NDArray[np.int32], before: NDArray[np.bytes_], after: NDArray[np.bytes_], starts: NDArray[np.int64]
) -> pa.StringArray:
    columns, rows = _digits(points[:, 0]), _digits(points[:, 1])
    fields = [
        ("before", before.dtype),
        ("x", columns.dtype),
        ("comma", "S1"),
        ("y", rows.dtype),
        ("after", after.dtype),
    ]
    text = np.empty(len(points), dtype=fields)
    text["before"], text["x"], text["comma"], text["y"], text["after"] = before, columns, b",", rows, after
    return pack_rows(text, starts)


def _digits(values: NDArray[np.int32]) -> NDArray[np.bytes_]:
    """Each value's decimal digits, looked up: the values of neighbours repeat."""
    if values.size == 0:
        return np.empty(0, dtype="S1")
    low, high = int(values.min()), int(values.max())
    return np.arange(low, high + 1).astype(f"S{max(len(str(low)), len(str(high)))}")[values - low]


def _close_rings(outlines: Outlines) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Points, rings and objects, with each ring's first point once more at its end."""
    points = np.insert(outlines.points, outlines.rings[1:], outlines.points[outlines.rings[:-1]], axis=0)
    return points, outlines.rings + np.arange(outlines.rings.size), outlines.objects


def _ends(starts: NDArray[np.int64], size: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of `size` points which are the first of their group, and which the last."""
    first, last = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    first[starts[:-1]] = True
    last[starts[1:] - 1] = True
    return first, last
