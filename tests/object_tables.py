"""Tables of objects with true outlines and areas, and figures of chance."""

from collections.abc import Sequence

import numpy as np
import scipy.ndimage as nd
import shapely
from numpy.typing import NDArray

from services.worker.writers.columns import Column, plan_columns
from shared.imaging.objects.table import ObjectTable, Outlines

Labels = NDArray[np.uint32]
Ring = list[tuple[int, int]]

SQUARE = np.ones((5, 5), dtype=bool)
L_SHAPE = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 1]], dtype=bool)
HOLED = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], dtype=bool)
PINCHED = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], dtype=bool)  # its hole touches the outside in one point


def draw_labels(shapes: Sequence[NDArray[np.bool_]], *, side: int = 8) -> Labels:
    """A row of objects, each from the second pixel of its own square of `side` px on."""
    labels = np.zeros((side, side * max(len(shapes), 1)), dtype=np.uint32)
    for index, shape in enumerate(shapes):
        height, width = shape.shape
        labels[1 : 1 + height, index * side + 1 : index * side + 1 + width][shape] = index + 1
    return labels


def scatter_labels(seed: int, *, height: int, width: int, density: float = 0.6) -> Labels:
    """Objects of any shape: what is 4-connected in noise."""
    labels, _ = nd.label(np.random.default_rng(seed).random((height, width)) < density)
    return np.asarray(labels, dtype=np.uint32)


def tabulate(
    labels: Labels,
    *,
    channels: Sequence[str] = ("red", "green", "blue"),
    scaled: bool = True,
    classes: Sequence[str] = ("nucleus",),
    seed: int = 0,
) -> ObjectTable:
    """The objects of `labels` (H, W), which are 4-connected. Classes take turns."""
    objects = [_trace(labels == label) for label in range(1, int(labels.max(initial=0)) + 1)]
    rings = [ring for rings in objects for ring in rings]
    outlines = Outlines(
        points=np.array([point for ring in rings for point in ring], dtype=np.int32).reshape(-1, 2),
        rings=np.cumsum([0, *map(len, rings)], dtype=np.int64),
        objects=np.cumsum([0, *map(len, objects)], dtype=np.int64),
    )
    return figure(outlines, plan_columns(channels, scaled=scaled), labels=labels, classes=classes, seed=seed)


def figure(
    outlines: Outlines, columns: Sequence[Column], *, labels: Labels, classes: Sequence[str], seed: int = 0
) -> ObjectTable:
    """A table of these columns: label, class, area and box as they are, the rest by chance."""
    rng, count = np.random.default_rng(seed), len(outlines)
    values = {column.name: rng.normal(scale=100, size=count) for column in columns}
    places = nd.find_objects(labels)
    true = {
        "label": np.arange(1, count + 1, dtype=np.uint32),
        "class": np.array([classes[index % len(classes)] for index in range(count)], dtype=object),
        "probability": rng.random(count, dtype=np.float32),
        "left_px": np.array([columns.start for _, columns in places], dtype=np.int32),
        "top_px": np.array([rows.start for rows, _ in places], dtype=np.int32),
        "right_px": np.array([columns.stop for _, columns in places], dtype=np.int32),
        "bottom_px": np.array([rows.stop for rows, _ in places], dtype=np.int32),
        "area_px2": np.bincount(labels.ravel(), minlength=count + 1)[1:],
    }
    return ObjectTable(values | true, outlines)


def _trace(mask: NDArray[np.bool_]) -> list[Ring]:
    """Outer ring, then holes, of the union of a mask's pixels."""
    rows, columns = np.nonzero(mask)
    union = shapely.union_all(shapely.box(columns, rows, columns + 1, rows + 1))
    turned = shapely.orient_polygons(shapely.simplify(union, 0))
    return [[(int(x), int(y)) for x, y in ring.coords[:-1]] for ring in (turned.exterior, *turned.interiors)]
