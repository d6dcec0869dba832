"""Objects as those who write them down get them: a row of figures and an outline each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Outlines:
    """The outlines of n objects along the edges of their pixels.

    Rings are closed: the first point follows the last, and is not repeated. Outer rings run so that their area is
    positive in (x, y), holes so that it is negative; only corners are points. A ring begins with its topmost edge, the
    leftmost if there are several, and the holes of an object ascend by the (y, x) of theirs: an object has one
    outline.
    """

    points: NDArray[np.int32]  # (points, 2): x, y of pixel corners; a pixel (row, column) spans x = column … column + 1
    rings: NDArray[np.int64]  # (rings + 1,): where in `points` each ring begins
    objects: NDArray[np.int64]  # (n + 1,): where in `rings` each object begins, with its outer ring; its holes follow

    def __len__(self) -> int:
        return self.objects.size - 1

    def take(self, rows: NDArray[np.integer]) -> "Outlines":
        """The objects of these rows, in their order."""
        rings, objects = _take_ragged(self.objects, rows)
        points, borders = _take_ragged(self.rings, rings)
        return Outlines(self.points[points], borders, objects)

    @classmethod
    def concatenate(cls, parts: Sequence["Outlines"]) -> "Outlines":
        """All objects of all parts, one part after the other."""
        empty = np.empty((0, 2), dtype=np.int32)
        return cls(
            np.concatenate([empty, *(part.points for part in parts)]),
            _append_borders([part.rings for part in parts]),
            _append_borders([part.objects for part in parts]),
        )


@dataclass(frozen=True, eq=False)
class ObjectTable:
    """Finished objects of a block, or of a whole small image, ascending by label.

    The columns, in this order; names carry the unit, and those in µm are there only where µm per pixel are known:
    `label` (uint32), `class` (text), `class_probability`, `probability` (0 … 1), `centroid_x_px`, `centroid_y_px` (a
    pixel's middle is at + 0.5), `left_px`, `top_px`, `right_px`, `bottom_px` (bounding box, ends excluded), `area_px2`,
    `perimeter_px`, `equivalent_diameter_px`, `eccentricity`, `solidity`, `orientation_deg`, `mean_…`, `std_…`, `min_…`,
    `max_…` per channel of the image, `nearest_px` (to the next centroid; NaN of a lone object), and `centroid_x_um`,
    `centroid_y_um`, `area_um2`, `perimeter_um`, `equivalent_diameter_um`, `nearest_um`.
    """

    columns: Mapping[str, Column]  # (n,) each
    outlines: Outlines

    def __len__(self) -> int:
        return len(self.outlines)


def _take_ragged(borders: NDArray[np.int64], rows: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the items of these rows lie, (items,), and where in that the items of each row begin, (rows + 1,)."""
    starts, sizes = borders[rows], borders[rows + 1] - borders[rows]
    taken = np.concatenate([[0], np.cumsum(sizes)])
    return np.arange(taken[-1]) + np.repeat(starts - taken[:-1], sizes), taken


def _append_borders(borders: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Where each row begins once the rows of all parts follow each other."""
    return np.concatenate([[0], np.cumsum(np.concatenate([np.empty(0, np.int64), *map(np.diff, borders)]))])
