"""A whole image, warped by a projective transform, read box by box; and the overview that the transform is found from.

The second input of a network with a spatial transformer (Jaderberg et al. 2015), for those who cut tiles: what
`WarpContract` promises, in numpy. Each warped pixel is computed from its place in the whole image alone, so that any
box holds exactly what the whole warped image holds there.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shared.imaging.tiling import Box, Pixels

Transform = NDArray[np.float32]  # (3, 3)
Reals = NDArray[np.float64]

LEAST_DEPTH = 1e-3  # what a projective transform divides by, at least
LARGEST_READ = 2**24  # px of the source held at once: a block of 2048 px with its halo, warped to twice its size
AT_ONCE = 2**18  # px warped at once: the coordinates of more would not stay in the processor's caches


class AreaMean:
    """Averages an image that comes in parts down (or up) to `side × side` px.

    Pixel i of an axis of n px is the mean of pixels ⌊i·n / side⌋ … ⌈(i+1)·n / side⌉ − 1, rounded half to even.
    """

    def __init__(self, height: int, width: int, *, side: int, channels: int) -> None:
        self._rows, self._columns = _Windows(height, side), _Windows(width, side)
        self._sums = np.zeros((side, side, channels), dtype=np.int64)

    def add(self, pixels: Pixels, box: Box) -> None:
        """Take the pixels (box.height, box.width, channels) of a box; the boxes cover the image exactly once."""
        rows, columns = self._rows.within(box.top, box.bottom), self._columns.within(box.left, box.right)
        down = self._rows.sum(pixels, box.top, box.bottom)  # (overview rows, box.width, channels)
        across = self._columns.sum(down.swapaxes(0, 1), box.left, box.right)
        self._sums[rows, columns] += across.swapaxes(0, 1)

    def result(self) -> Pixels:
        """The overview (side, side, channels), once all parts were given."""
        counts = self._rows.lengths[:, None, None] * self._columns.lengths[:, None]
        return np.rint(self._sums / counts).astype(np.uint8)


def average_overview(image: Pixels, side: int) -> Pixels:
    """The overview (side, side, C) of a whole image (H, W, C), see `AreaMean`."""
    height, width, channels = image.shape
    mean = AreaMean(height, width, side=side, channels=channels)
    mean.add(image, Box(0, 0, height, width))
    return mean.result()


def read_warped(
    read: Callable[[Box], Pixels], theta: NDArray[np.floating], box: Box, *, height: int, width: int
) -> Pixels:
    """The pixels (box.height, box.width, C) of a box of the warped image, which has the image's size.

    The warped pixel at (x, y) is the image at (u/w, v/w) with (u, v, w) = theta · (x, y, 1) and w at least 0.001,
    bilinearly, rounded, from the nearest border pixel where that lies outside. Coordinates run from −1 to 1 between
    the outer edges of the image: x = (2·column + 1) / width − 1 at a pixel's middle, y likewise.

    Args:
        read: gives the pixels (h, w, C) of a box inside the image; asked for no more than is needed around, and for
            `LARGEST_READ` px at most at once.
        theta: (3, 3).
        box: inside the image.
        height: of the image, px.
        width: of the image, px.
    """
    return _read_warped(read, _Warp(np.asarray(theta, dtype=np.float64), height, width), box)


def _read_warped(read: Callable[[Box], Pixels], warp: "_Warp", box: Box) -> Pixels:
    seen = warp.find_seen(box)
    if seen.height * seen.width <= LARGEST_READ or box.height * box.width == 1:
        return _sample(read(seen), seen, warp, box)
    if box.height >= box.width:
        middle = (box.top + box.bottom) // 2
        halves = Box(box.top, box.left, middle, box.right), Box(middle, box.left, box.bottom, box.right)
        return np.concatenate([_read_warped(read, warp, half) for half in halves], axis=0)
    middle = (box.left + box.right) // 2
    halves = Box(box.top, box.left, box.bottom, middle), Box(box.top, middle, box.bottom, box.right)
    return np.concatenate([_read_warped(read, warp, half) for half in halves], axis=1)


class _Warp:
    """From pixels of the warped image to where they are read."""

    def __init__(self, theta: Reals, height: int, width: int) -> None:
        self._theta = theta
        self._height, self._width = height, width

    def find_sources(self, rows: Reals, columns: Reals) -> tuple[Reals, Reals]:
        """Rows and columns of the source, as fractions, for pixels of the warped image (shapes that broadcast)."""
        x, y = (2 * columns + 1) / self._width - 1, (2 * rows + 1) / self._height - 1
        u, v, w = (across * x + (down * y + shift) for across, down, shift in self._theta)
        depth = np.maximum(w, LEAST_DEPTH)
        return _to_pixels(v / depth, self._height), _to_pixels(u / depth, self._width)

    def find_seen(self, box: Box) -> Box:
        """A box of the source that holds all pixels which a box of the warped image is read from."""
        down, across = self.find_sources(*self._find_extremes(box))
        return Box(
            max(int(down.min()) - 1, 0),  # one pixel more than needed: these points were rounded by themselves
            max(int(across.min()) - 1, 0),
            min(int(down.max()) + 3, self._height),
            min(int(across.max()) + 3, self._width),
        )

    def _find_extremes(self, box: Box) -> tuple[Reals, Reals]:
        """Rows and columns of points between which all sources of the box lie.

        Where the depth is clamped, and where it is not, straight lines stay straight: each of the two parts of the
        box is as large as its corners say. These are the box's own, and where the line between them leaves it.
        """
        first, last = (box.top, box.left), (box.bottom - 1, box.right - 1)
        corners = np.array([first, (first[0], last[1]), last, (last[0], first[1])], dtype=np.float64)
        following = np.roll(corners, -1, axis=0)
        depths = self._find_depths(corners) - LEAST_DEPTH
        change = np.roll(depths, -1) - depths
        crossed = depths * (depths + change) < 0
        share = -depths[crossed] / change[crossed]
        crossings = corners[crossed] + share[:, None] * (following - corners)[crossed]
        return tuple(np.concatenate([corners, crossings]).T)

    def _find_depths(self, points: Reals) -> Reals:
        """w, before it is clamped, at points (n, 2) of row and column."""
        y, x = (2 * points.T + 1) / np.array([[self._height], [self._width]]) - 1
        across, down, shift = self._theta[2]
        depths: Reals = across * x + down * y + shift
        return depths


class _Windows:
    """The pixels of an axis that each of `side` pixels of an overview is the mean of; neighbours may share one."""

    def __init__(self, size: int, side: int) -> None:
        index = np.arange(side)
        self._starts = index * size // side
        self._stops = -(-(index + 1) * size // side)
        self.lengths = self._stops - self._starts

    def within(self, start: int, stop: int) -> slice:
        """Which pixels of the overview see any of pixels start … stop − 1."""
        first = np.searchsorted(self._stops, start, side="right")
        return slice(int(first), int(np.searchsorted(self._starts, stop, side="left")))

    def sum(self, values: NDArray[np.integer], start: int, stop: int) -> NDArray[np.integer]:
        """Values (stop − start, …), pixels start … stop − 1 of the axis, summed over each of `within`'s windows."""
        # Bytes are summed over one axis of a part: 32 bits are enough for 16 million, and faster.
        wide = np.uint32 if values.dtype == np.uint8 else np.int64
        windows = self.within(start, stop)
        spans = zip(self._starts[windows] - start, self._stops[windows] - start, strict=True)
        return np.stack([values[max(first, 0) : last].sum(axis=0, dtype=wide) for first, last in spans])


def _to_pixels(place: Reals, size: int) -> Reals:
    """Coordinates of −1 … 1 to pixels of an axis, within the border."""
    return np.clip(((place + 1) * size - 1) / 2, 0, size - 1)


def _sample(pixels: Pixels, seen: Box, warp: _Warp, box: Box) -> Pixels:
    """The warped pixels of `box` from the source's pixels of `seen`, a few rows at a time."""
    warped = np.empty((box.height, box.width, pixels.shape[2]), dtype=np.uint8)
    columns, step = np.arange(box.left, box.right), max(AT_ONCE // box.width, 1)
    for top in range(box.top, box.bottom, step):
        rows = np.arange(top, min(top + step, box.bottom))[:, None]
        down, across = warp.find_sources(rows.astype(np.float64), columns.astype(np.float64))
        warped[top - box.top :][: len(rows)] = _interpolate(pixels, seen, down, across)
    return warped


def _interpolate(pixels: Pixels, seen: Box, down: Reals, across: Reals) -> Pixels:
    """Bilinear values (h, w, C) at rows `down` and columns `across` (h, w) of the image; `pixels` begin at `seen`."""
    row, column = down.astype(np.intp), across.astype(np.intp)  # floors: there is nothing below 0
    lower, right = ((place - whole).astype(np.float32)[..., None] for place, whole in ((down, row), (across, column)))
    row, column = row - seen.top, column - seen.left
    # At the image's border there is no next pixel, but nothing is taken of it either.
    next_row, next_column = np.minimum(row + 1, seen.height - 1), np.minimum(column + 1, seen.width - 1)
    line = pixels.reshape(-1, pixels.shape[2])

    def between(start: NDArray[np.intp]) -> NDArray[np.float32]:
        mixed: NDArray[np.float32] = line[start + column] * (1 - right) + line[start + next_column] * right
        return mixed

    mixed = between(row * seen.width) * (1 - lower) + between(next_row * seen.width) * lower
    return np.rint(mixed).astype(np.uint8)
