"""Contrast-limited adaptive histogram equalisation (Zuiderveld 1994, Graphics Gems IV, "CLAHE").

The image is divided into regions; each gets the table of levels that equalises its own clipped histogram. A pixel's
new value is interpolated between what the tables of the four regions around it say, by its place between their
middles. The tables are the whole image's facts, so any box is read as the whole would be.
"""

import base64
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shared.imaging.levels import COUNT
from shared.imaging.steps.views import Facts, Frame, ImageStep, Read, View
from shared.imaging.tiling import Box, Pixels

Counts = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Clahe(ImageStep):
    """`tiles` regions along each side; a value counts at most `clip` times what it would if all were as frequent."""

    tiles: int = 8
    clip: float = 2.0

    def plan(self, view: View) -> Facts:
        rows, columns = self._axes(view.frame)
        counts = np.zeros((rows.count, columns.count, len(view.frame.channels), COUNT), dtype=np.int64)
        for box in view.boxes():
            pixels = view.read(box)
            for row, down in rows.parts(box.top, box.bottom):
                for column, across in columns.parts(box.left, box.right):
                    counts[row, column] += _count(pixels[down, across])
        return {"tables": _pack(find_tables(counts, self.clip))}

    def reader(self, view: View, facts: Facts) -> Read:
        rows, columns = self._axes(view.frame)
        shape = rows.count, columns.count, len(view.frame.channels), COUNT
        tables = _unpack(facts["tables"], shape)

        def read(box: Box) -> Pixels:
            pixels = view.read(box)
            result = np.empty_like(pixels)
            for down, lower in rows.spans(box.top, box.bottom):
                for across, right in columns.spans(box.left, box.right):
                    corners = tables[np.ix_([lower.before, lower.after], [right.before, right.after])]
                    weights = lower.weights[:, None], right.weights
                    result[down, across] = _interpolate(pixels[down, across], corners, *weights)
            return result

        return read

    def _axes(self, frame: Frame) -> tuple["_Axis", "_Axis"]:
        return _Axis(frame.height, min(self.tiles, frame.height)), _Axis(frame.width, min(self.tiles, frame.width))


def find_tables(counts: Counts, clip: float) -> Pixels:
    """Histograms (…, 256) of regions → tables of new values (…, 256), uint8.

    What a value counts beyond the limit is spread evenly over all values, the rest of it one by one at even steps.
    """
    total = counts.sum(axis=-1, keepdims=True)
    limit = np.maximum((clip * total / COUNT).astype(np.int64), 1)
    clipped = np.minimum(counts, limit)
    excess = (counts - clipped).sum(axis=-1, keepdims=True)
    rest = excess % COUNT
    step = np.maximum(COUNT // np.maximum(rest, 1), 1)
    values = np.arange(COUNT)
    clipped = clipped + excess // COUNT + ((values % step == 0) & (values // step < rest))
    tables: Pixels = np.rint(clipped.cumsum(axis=-1) * ((COUNT - 1) / total)).clip(0, COUNT - 1).astype(np.uint8)
    return tables


@dataclass(frozen=True)
class _Between:
    """Two neighbouring regions, and how much pixels between their middles have of the second, 0 … 1."""

    before: int
    after: int
    weights: Reals


class _Axis:
    """One side of the image of `size` px, cut into `count` regions of about the same length."""

    def __init__(self, size: int, count: int) -> None:
        self.count = count
        self._edges = [number * size // count for number in range(count + 1)]
        self._middles = [(first + last - 1) / 2 for first, last in pairwise(self._edges)]

    def parts(self, start: int, stop: int) -> Iterator[tuple[int, slice]]:
        """Each region that pixels start … stop − 1 have a part in, and which of them it holds, from start on."""
        for number, (first, last) in enumerate(pairwise(self._edges)):
            if first < stop and last > start:
                yield number, slice(max(first, start) - start, min(last, stop) - start)

    def spans(self, start: int, stop: int) -> Iterator[tuple[slice, _Between]]:
        """Pixels start … stop − 1, from start on, parted at the middles of regions."""
        bounds = [-1.0, *self._middles, float("inf")]
        for number, (low, high) in enumerate(pairwise(bounds)):
            first, last = max(int(np.floor(low)) + 1, start), min(int(min(high, stop)) + 1, stop)
            if first < last:
                before, after = max(number - 1, 0), min(number, self.count - 1)
                width = self._middles[after] - self._middles[before]
                places = np.arange(first, last) - self._middles[before]
                weights = (places / (width or np.inf)).astype(np.float64)
                yield slice(first - start, last - start), _Between(before, after, weights)


def _interpolate(pixels: Pixels, corners: Pixels, lower: Reals, right: Reals) -> Pixels:
    """New values of pixels (h, w, C) from the tables (2, 2, C, 256) around them; weights (h, 1) and (w,)."""
    result = np.empty_like(pixels)
    for channel in range(pixels.shape[2]):
        plane = pixels[:, :, channel]
        (a, b), (c, d) = ([table[plane] for table in row] for row in corners[:, :, channel].astype(np.float64))
        above, below = a * (1 - right) + b * right, c * (1 - right) + d * right
        result[:, :, channel] = np.rint(above * (1 - lower) + below * lower)
    return result


def _count(pixels: Pixels) -> Counts:
    """(h, w, C) → (C, 256)."""
    planes = np.moveaxis(pixels, 2, 0)
    return np.stack([np.bincount(plane.ravel(), minlength=COUNT) for plane in planes]).astype(np.int64)


def _pack(tables: Pixels) -> str:
    """As text: hundreds of tables, stored with every image."""
    return base64.b64encode(zlib.compress(tables.tobytes(), 6)).decode()


def _unpack(text: str, shape: tuple[int, ...]) -> Pixels:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8).reshape(shape)
