"""What the axes of a TIFF's series of pages mean: rows, columns, channels, and stacks of planes."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from tifffile import TiffFileError

from shared.errors import Rejected

CHANNELS = "SC"  # samples of a pixel; channels of their own


@dataclass(frozen=True)
class Axes:
    """`letters`: one per axis: Y, X, C (channels) or "." (one entry of it is taken, see `entries`)."""

    letters: str
    entries: tuple[int, ...]  # 0 for Y, X and C
    channels: int

    @property
    def selection(self) -> tuple[int | slice, ...]:
        """The index that takes the image out of the series as an array; Y, X and C stay, in their order."""
        pairs = zip(self.letters, self.entries, strict=True)
        return tuple(entry if letter == "." else slice(None) for letter, entry in pairs)

    def choose_pages(self, shape: tuple[int, ...], pages: int) -> list[int]:
        """Which of the pages hold the image: one, or one for each channel, in their order.

        `shape`: of the series. Its first axes count the pages, the others lie within one.
        """
        outer = next((count for count in range(len(shape) + 1) if math.prod(shape[:count]) == pages), 0)
        inside = self.letters[outer:]
        if "Y" not in inside or "X" not in inside or any(self.entries[outer:]):
            raise TiffFileError(f"its {pages} pages do not make up its shape {shape}")
        chosen = tuple(
            slice(None) if letter == "C" else entry
            for letter, entry in zip(self.letters[:outer], self.entries[:outer], strict=True)
        )
        return [int(index) for index in np.arange(pages).reshape(shape[:outer])[chosen].ravel()]


def find_axes(series: Any, *, name: str, page: int | None) -> Axes:
    """The axes of a series (tifffile's). `page`: which plane of a stack is meant, from 0, in the order of its axes.

    Raises:
        Rejected: the image is a stack and no plane was chosen, or one that it has not.
    """
    sizes = dict(zip(series.axes, series.shape, strict=True))
    stacked = {axis: size for axis, size in sizes.items() if axis not in "YX" + CHANNELS and size > 1}
    kept = [axis for axis in series.axes if axis in CHANNELS and sizes[axis] > 1]
    if len(kept) > 1:
        raise Rejected(f"{name}: {sizes['C']} colour images in one; submit each as an image of its own")
    chosen = dict(zip(stacked, _choose_plane(stacked, name=name, page=page), strict=True))
    return Axes(
        letters="".join(axis if axis in "YX" else "C" if axis in kept else "." for axis in series.axes),
        entries=tuple(chosen.get(axis, 0) for axis in series.axes),
        channels=sizes[kept[0]] if kept else 1,
    )


def count_planes(series: Any) -> int:
    """How many planes there are to choose from, 1 for what is no stack."""
    sizes = zip(series.axes, series.shape, strict=True)
    return math.prod(size for axis, size in sizes if axis not in "YX" + CHANNELS)


def _choose_plane(stacked: dict[str, int], *, name: str, page: int | None) -> tuple[int, ...]:
    planes = math.prod(stacked.values())
    if page is None and planes > 1:
        letters = "".join(stacked)
        raise Rejected(
            f"{name}: a stack of {planes} planes (axis {letters}); submit each plane as an image of its own; stacks "
            "with labels are read by an ingest with the layout isbi"
        )
    if not 0 <= (page or 0) < planes:
        raise Rejected(f"{name}: there is no plane {page}, the file has {planes}; count from 0")
    return tuple(int(place) for place in np.unravel_index(page or 0, tuple(stacked.values()))) if stacked else ()
