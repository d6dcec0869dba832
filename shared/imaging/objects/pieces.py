"""What is known of an object, or of the part of it that lies in one block, in figures that add up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shared.imaging.objects.grouping import Grouping
from shared.imaging.objects.runs import Indices, Labels, Runs, find_runs
from shared.imaging.objects.sums import Counts, Figures, Values, count_classes, measure_channels, sum_planes
from shared.imaging.objects.table import Outlines
from shared.imaging.objects.tracing import join_outlines, trace_runs
from shared.imaging.tiling import Box, Pixels

_ADDED = ("areas", "moments", "votes", "planes", "counts", "sums", "squares")


@dataclass(frozen=True, eq=False)
class Pieces:
    """n pieces of objects, in the pixels of the whole image: the pieces of an object added up are the object.

    Integers are exact, and so are the figures of images of up to 16 bits, as long as the squares of an object stay
    below 2⁵³ (two million pixels of full 16 bits). Those of float images depend on the order of adding in their last
    digits. Of a float image a pixel that is no finite number counts for its object in every way but one: in that
    channel it has no value, so it is missing in `counts`, `sums` and the others.

    `moments` may overflow for giant objects far from the origin; they do so modulo 2⁶⁴, so that moments about a point
    within the object come out right again (`shapes.fit_ellipses`).
    """

    areas: Counts  # (n,) px²
    anchors: NDArray[np.int32]  # (n, 2) row and column of the first pixel in reading order
    boxes: NDArray[np.int32]  # (n, 4) top, left, bottom, right; ends excluded
    moments: Counts  # (n, 5) sums of row, column, row², row · column, column² over the pixels
    votes: Counts  # (n, classes) pixels of each class, background first
    planes: Counts  # (n, planes) sums of the probabilities of each plane, in 1/255
    counts: Counts  # (n, channels) pixels with a value
    sums: Figures  # (n, channels) of their values
    squares: Figures  # (n, channels) sums of the squared values
    lows: Figures  # (n, channels) lowest value, ∞ if there is none
    highs: Figures  # (n, channels) highest value, −∞ if there is none
    outlines: Outlines

    def __len__(self) -> int:
        return self.areas.size

    def take(self, rows: NDArray[np.integer[Any]]) -> Self:
        """The pieces of these rows, in their order."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return type(self)(**columns, outlines=self.outlines.take(rows))

    @classmethod
    def concatenate(cls, parts: Sequence["Pieces"]) -> Self:
        """All pieces of all parts, one part after the other. Raises ValueError if there is no part."""
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
        return cls(**columns, outlines=Outlines.concatenate([part.outlines for part in parts]))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays to be stored: whole numbers as narrow as they fit, outlines as every other corner in its box."""
        arrays = {name: _narrow(getattr(self, name)) for name in _COLUMNS}
        outlines = self.outlines
        owners = np.repeat(np.arange(len(self)), np.diff(outlines.rings[outlines.objects]))
        inside = outlines.points - self.boxes[owners][:, [1, 0]]
        # Edges are horizontal and vertical in turn: the corners between have x of the next, and y of the last.
        corners = {"corners": inside[::2], "ring_sizes": np.diff(outlines.rings), "rings": np.diff(outlines.objects)}
        return arrays | {name: _narrow(array) for name, array in corners.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `to_arrays` gave."""
        columns = {name: arrays[name].astype(_TYPES.get(name, np.int64)) for name in _COLUMNS}
        objects = np.concatenate([[0], np.cumsum(arrays["rings"], dtype=np.int64)])
        rings = np.concatenate([[0], np.cumsum(arrays["ring_sizes"], dtype=np.int64)])
        corners = arrays["corners"].astype(np.int32)
        points = np.repeat(corners, 2, axis=0)
        points[1:-1:2, 0] = corners[1:, 0]
        points[rings[1:] - 1, 0] = points[rings[:-1], 0]
        points += np.repeat(columns["boxes"][:, [1, 0]], np.diff(rings[objects]), axis=0)
        return cls(**columns, outlines=Outlines(points, rings, objects))


_COLUMNS = tuple(field.name for field in fields(Pieces) if field.name != "outlines")
_INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)
_TYPES: dict[str, type[np.generic]] = {
    "anchors": np.int32,
    "boxes": np.int32,
    "sums": np.float64,
    "squares": np.float64,
    "lows": np.float64,
    "highs": np.float64,
}


def measure_pieces(labels: Labels, classes: Pixels, planes: Pixels, channels: Values, box: Box) -> Pieces:
    """The figures of the pieces 1 … n of `labels` (h, w), in this order. `box` is where these arrays lie in the image.

    `classes` (h, w) is each pixel's class, 0 the background; `planes` (C, h, w) are probabilities in 1/255: one of the
    foreground, or one per class; `channels` (h, w, K) is the image, of any real type.

    Raises:
        ValueError: a label below the highest does not occur, a class has no plane, or the shapes do not fit.
    """
    shape = (box.height, box.width)
    if not labels.shape == classes.shape == planes.shape[1:] == channels.shape[:2] == shape:
        raise ValueError(f"arrays of {labels.shape}, {classes.shape}, {planes.shape}, {channels.shape} for {shape}")
    class_count = max(len(planes), 2)
    if classes.max(initial=0) >= class_count:
        raise ValueError(f"class {classes.max()} has no plane: there are {len(planes)}")
    runs = find_runs(labels)
    count = int(runs.objects.max(initial=-1)) + 1
    grouping = Grouping.of(runs.objects, count)
    return Pieces(
        **_measure_shape(runs, grouping, box),
        votes=count_classes(runs, count, classes, class_count),
        planes=sum_planes(runs, count, planes),
        **measure_channels(runs, count, channels),
        outlines=trace_runs(runs, count, (box.top, box.left)),
    )


def _measure_shape(runs: Runs, grouping: Grouping, box: Box) -> dict[str, Any]:
    """What can be said from runs alone: areas, anchors, boxes, moments."""
    rows, left, right = runs.rows + box.top, runs.starts + box.left, runs.stops + box.left
    lengths = runs.lengths
    columns = lengths * (left + right - 1) // 2
    moments = [rows * lengths, columns, rows * rows * lengths, rows * columns, _sum_squares(right) - _sum_squares(left)]
    first = grouping.order[grouping.starts]  # runs are in reading order, and stay so within an object
    ends = np.stack([grouping.least(left), grouping.greatest(rows) + 1, grouping.greatest(right)], axis=1)
    return {
        "areas": grouping.add(lengths),
        "anchors": np.stack([rows[first], left[first]], axis=1).astype(np.int32),
        "boxes": np.hstack([rows[first][:, None], ends]).astype(np.int32),
        "moments": grouping.add(np.stack(moments, axis=1)),
    }


def _sum_squares(stop: Indices) -> Indices:
    """0² + 1² + … + (stop − 1)²."""
    return (stop - 1) * stop * (2 * stop - 1) // 6


def merge(parts: Sequence[Pieces], groups: Sequence[NDArray[np.integer[Any]]]) -> Pieces:
    """The pieces of `parts`, those of a group made one.

    `groups` says for each part to which group, from 0, each of its pieces belongs; −1 leaves it out. There are as many
    groups as the highest says.

    Raises:
        ValueError: a group has no piece, there is no part, or a part has not as many groups as pieces.
    """
    pieces = Pieces.concatenate(parts)
    owners = np.concatenate(groups)
    count = int(owners.max(initial=-1)) + 1
    grouping = Grouping.of(owners, count)
    return Pieces(
        **{name: grouping.add(getattr(pieces, name)) for name in _ADDED},
        anchors=_first(grouping, pieces.anchors),
        boxes=np.hstack([grouping.least(pieces.boxes[:, :2]), grouping.greatest(pieces.boxes[:, 2:])]),
        lows=grouping.least(pieces.lows),
        highs=grouping.greatest(pieces.highs),
        outlines=join_outlines([pieces.outlines], [owners], count),
    )


def _first(grouping: Grouping, anchors: NDArray[np.int32]) -> NDArray[np.int32]:
    """Of each group the anchor (row, column) that comes first in reading order."""
    places = grouping.least(anchors[:, 0].astype(np.int64) << 32 | anchors[:, 1])
    return np.stack([places >> 32, places & 0xFFFFFFFF], axis=1).astype(np.int32)


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as the narrowest integers that hold them all, whatever their type was; others as they are."""
    if array.dtype.kind == "f" and not np.all(np.abs(array) < 2**53):
        return array
    whole = array.astype(np.int64)
    if np.any(whole != array):
        return array
    low, high = int(whole.min(initial=0)), int(whole.max(initial=0))
    return whole.astype(next(kind for kind in _INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max))
