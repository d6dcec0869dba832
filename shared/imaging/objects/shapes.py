"""Figures of an object's shape, from its moments and its outline."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from shared.imaging.objects.table import Outlines

Figures = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ellipses:
    """The ellipses with the second moments of n objects, as scikit-image has them: a pixel is a point, not a square."""

    centroids: Figures  # (n, 2) x, y; px, the middle of a pixel at + 0.5
    eccentricities: Figures  # (n,) 0 of a circle … 1 of a line
    orientations: Figures  # (n,) degrees from the x axis to the longer one, anticlockwise as seen: −90 < … ≤ 90


def fit_ellipses(areas: NDArray[np.int64], moments: NDArray[np.int64]) -> Ellipses:
    """Of objects with these areas (n,) and moments (n, 5), as in `Pieces`. Of a circle the orientation is 0.

    The moments are moved to the pixel nearest to the centroid in integers, so that far from the origin nothing is lost;
    there they are right again even if they had overflown.
    """
    row, column = (moments[:, axis] // areas for axis in (0, 1))
    rows, columns, row_row, row_column, column_column = moments.T
    down, right = (rows - row * areas) / areas, (columns - column * areas) / areas
    yy = (row_row - 2 * row * rows + row * row * areas) / areas - down * down
    xx = (column_column - 2 * column * columns + column * column * areas) / areas - right * right
    xy = (row_column - row * columns - column * rows + row * column * areas) / areas - down * right
    spread = np.hypot((xx - yy) / 2, xy)
    longest = (xx + yy) / 2 + spread
    flatness = np.divide(2 * spread, longest, out=np.zeros_like(longest), where=longest > 0)  # 1 − shorter² / longer²
    angles = np.degrees(np.arctan2(-2 * xy, xx - yy)) / 2  # y points down: − xy
    return Ellipses(
        centroids=np.stack([column + right + 0.5, row + down + 0.5], axis=1),
        eccentricities=np.sqrt(np.clip(flatness, 0, 1)),
        orientations=np.where(spread == 0, 0.0, np.where(angles <= -90, 90.0, angles)),
    )


def measure_perimeters(outlines: Outlines) -> Figures:
    """Perimeters (n,), px, by Crofton's formula in four directions, as scikit-image's `perimeter_crofton` has them.

    Lines along rows and columns cross an object's border once for every edge of a pixel in it. At each of its vertices
    two diagonals pass between pixels: along a straight border both cross it, at a corner one, and where two pixels
    of the object touch diagonally (which makes two corners) neither.
    """
    owners, first, last = _steps(outlines)
    count = len(outlines)
    edges = np.bincount(owners, np.abs(outlines.points[last] - outlines.points[first]).sum(axis=1), count)
    corners = np.bincount(owners, minlength=count)
    diagonals = 2 * edges - corners - _count_shared(owners, outlines.points, count)
    perimeters: Figures = np.pi / 8 * (edges + diagonals / np.sqrt(2))
    return perimeters


def measure_hulls(outlines: Outlines) -> Figures:
    """Areas (n,), px², of the convex hulls of the objects, each pixel a square."""
    begin = outlines.rings[outlines.objects[:-1]]
    outer = outlines.rings[outlines.objects[:-1] + 1] - begin
    starts = np.concatenate([[0], np.cumsum(outer)])
    points = outlines.points[np.arange(starts[-1]) + np.repeat(begin - starts[:-1], outer)].astype(np.float64)
    lines = shapely.from_ragged_array(shapely.GeometryType.LINESTRING, points, (starts,))
    areas: Figures = shapely.area(shapely.convex_hull(lines))
    return areas


def _steps(outlines: Outlines) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Of each side of each ring its object, and the places of its first and its last point; (points,) each."""
    owners = np.repeat(np.arange(len(outlines)), np.diff(outlines.rings[outlines.objects]))
    first = np.arange(owners.size)
    last = first + 1
    last[outlines.rings[1:] - 1] = outlines.rings[:-1]
    return owners, first, last


def _count_shared(owners: NDArray[np.intp], points: NDArray[np.int32], count: int) -> NDArray[np.intp]:
    """Points of each object (n,) that lie where another of the same object does."""
    left, top = points.min(axis=0, initial=0).astype(np.int64)
    right, bottom = points.max(axis=0, initial=0).astype(np.int64) + 1
    keys = (owners * (bottom - top) + points[:, 1] - top) * (right - left) + points[:, 0] - left
    keys.sort()
    twice = keys[1:][keys[1:] == keys[:-1]]
    shared: NDArray[Any] = 2 * np.bincount(twice // ((right - left) * (bottom - top)), minlength=count)
    return shared
