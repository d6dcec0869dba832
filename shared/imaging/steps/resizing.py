"""Another size for an image, box by box, in whole numbers: no rounding depends on which box is read.

Along an axis that shrinks a new pixel is the mean of the stretch it covers, in which pixels at the ends count by the
part that is covered; along one that grows it is interpolated between the two nearest pixels' middles. The border pixel
goes on beyond the border.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from shared.errors import Rejected
from shared.imaging.steps.views import Facts, Frame, ImageStep, Read, View
from shared.imaging.tiling import Box, Pixels

LARGEST_READ = 2**21  # px of the source held at once, eight bytes for each value
LARGEST_PLANE = 2**24  # px, of classes
LARGEST_SIDE, LARGEST_AREA = 10_000_000, 40_000_000_000  # px of the result
EVEN = 0.01  # the two sides' scales may differ by this share for an image to keep one number of µm per pixel

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Resize(ImageStep):
    """To a square of `side` px, by a factor, or to so many µm per pixel; one of the three is given."""

    side: int | None = None
    scale: float | None = None
    mpp: float | None = None

    def reframe(self, frame: Frame) -> Frame:
        height, width = self._size(frame)
        if max(height, width) > LARGEST_SIDE or height * width > LARGEST_AREA:
            raise Rejected(
                f"{frame.name}: resized it would have {width} × {height} px, and {LARGEST_AREA:,} px are the most; "
                "choose a smaller scale, or more µm per pixel"
            )
        down, across = frame.height / height, frame.width / width
        is_even = abs(down - across) <= EVEN * across
        mpp = frame.mpp * (down + across) / 2 if frame.mpp is not None and is_even else None
        return replace(frame, height=height, width=width, mpp=mpp, tile=(1, 1))

    def _size(self, frame: Frame) -> tuple[int, int]:
        if self.side is not None:
            return self.side, self.side
        if self.scale is not None:
            factor = self.scale
        elif frame.mpp is None or self.mpp is None:
            raise Rejected(
                f"{frame.name}: the file does not say its µm per pixel, so it cannot be brought to {self.mpp}; resize "
                "by scale or side, or store the resolution in the file"
            )
        else:
            factor = frame.mpp / self.mpp
        return max(round(frame.height * factor), 1), max(round(frame.width * factor), 1)

    def reader(self, view: View, facts: Facts) -> Read:  # noqa: ARG002
        target = self.reframe(view.frame)
        rows, columns = Axis(view.frame.height, target.height), Axis(view.frame.width, target.width)
        return lambda box: _read(view.read, rows, columns, box)


def read_nearest(
    read: Callable[[Box], NDArray[Any]], box: Box, *, source: tuple[int, int], target: tuple[int, int]
) -> NDArray[Any]:
    """A box (h, w) of a plane of `target` (height, width) px, each pixel the one of the `source` at its middle.

    `read` gives the source's pixels (h, w) of a box inside it, and is asked for `LARGEST_PLANE` px at most at once.
    """
    rows, columns = (
        Axis(source[0], target[0]).nearest(box.top, box.bottom),
        Axis(source[1], target[1]).nearest(box.left, box.right),
    )
    seen = Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    if seen.height * seen.width > LARGEST_PLANE and box.height * box.width > 1:
        halves, axis = halve(box)
        return np.concatenate([read_nearest(read, half, source=source, target=target) for half in halves], axis=axis)
    return read(seen)[np.ix_(rows - seen.top, columns - seen.left)]


def halve(box: Box) -> tuple[tuple[Box, Box], int]:
    """The two halves of a box along its longer side, and which axis that is."""
    if box.height >= box.width:
        middle = (box.top + box.bottom) // 2
        return (Box(box.top, box.left, middle, box.right), Box(middle, box.left, box.bottom, box.right)), 0
    middle = (box.left + box.right) // 2
    return (Box(box.top, box.left, box.bottom, middle), Box(box.top, middle, box.bottom, box.right)), 1


class Axis:
    """A side of an image of `size` px that becomes `target` px."""

    def __init__(self, size: int, target: int) -> None:
        self.size, self.target = size, target

    @property
    def whole(self) -> int:
        """What the weights of a new pixel add up to."""
        return self.size if self.target <= self.size else 2 * self.target

    def find_seen(self, start: int, stop: int) -> tuple[int, int]:
        """The stretch of the source that new pixels start … stop − 1 are made of."""
        first, _ = self._reach(np.array([start]))
        _, last = self._reach(np.array([stop - 1]))
        return int(first[0].clip(0)), int(last[0].clip(None, self.size))

    def weights(self, start: int, stop: int) -> sparse.csr_array:
        """(stop − start, seen pixels), whole numbers: what each new pixel has of each pixel that is seen."""
        pixels = np.arange(start, stop)
        first, last = self._reach(pixels)
        counts = last - first
        owner = np.repeat(np.arange(len(pixels)), counts)
        source = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts) + first[owner]
        lowest, highest = self.find_seen(start, stop)
        places = source.clip(0, self.size - 1) - lowest
        shape = len(pixels), highest - lowest
        return sparse.csr_array((self._share(pixels[owner], source), (owner, places)), shape=shape)

    def nearest(self, start: int, stop: int) -> Index:
        """For each new pixel start … stop − 1 the source's pixel at its middle."""
        pixels: Index = (2 * np.arange(start, stop) + 1) * self.size // (2 * self.target)
        return pixels

    def _reach(self, pixels: Index) -> tuple[Index, Index]:
        """The first pixel that counts for each, and the one after the last; may leave the image by one."""
        if self.target <= self.size:
            return pixels * self.size // self.target, -(-(pixels + 1) * self.size // self.target)
        first = ((2 * pixels + 1) * self.size - self.target) // (2 * self.target)
        return first, first + 2

    def _share(self, pixels: Index, source: Index) -> Index:
        """How much of each new pixel each source pixel makes up."""
        if self.target <= self.size:
            last = np.minimum((source + 1) * self.target, (pixels + 1) * self.size)
            covered: Index = last - np.maximum(source * self.target, pixels * self.size)
            return covered
        place = (2 * pixels + 1) * self.size - self.target  # of the middle, in 2 · target parts of a source pixel
        share: Index = 2 * self.target - np.abs(place - 2 * self.target * source)
        return share


def _read(read: Read, rows: Axis, columns: Axis, box: Box) -> Pixels:
    """A box of the result, in parts if it takes too much of the source."""
    (top, bottom), (left, right) = rows.find_seen(box.top, box.bottom), columns.find_seen(box.left, box.right)
    if (bottom - top) * (right - left) <= LARGEST_READ or box.height * box.width == 1:
        pixels = read(Box(top, left, bottom, right))
        down, across = rows.weights(box.top, box.bottom), columns.weights(box.left, box.right)
        return _resample(pixels, down, across, rows.whole * columns.whole)
    halves, axis = halve(box)
    return np.concatenate([_read(read, rows, columns, half) for half in halves], axis=axis)


def _resample(pixels: Pixels, down: sparse.csr_array, across: sparse.csr_array, whole: int) -> Pixels:
    """(h, w, C) → (rows of `down`, rows of `across`, C), rounded, halves up."""
    height, width, channels = pixels.shape
    lines = (down @ pixels.reshape(height, -1).astype(np.int64)).reshape(-1, width, channels)
    turned = lines.swapaxes(0, 1).reshape(width, -1)
    sums = (across @ turned).reshape(across.shape[0], down.shape[0], channels).swapaxes(0, 1)
    return np.ascontiguousarray(((2 * sums + whole) // (2 * whole)).astype(np.uint8))
