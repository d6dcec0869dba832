"""Pictures of a report: an image no larger than a stamp, with the outlines of what is marked in it."""

import numpy as np
from numpy.typing import NDArray

from services.worker.writers.overlay import OverviewGrid
from services.worker.writers.palette import colour_table
from shared.examination.thumbnails import SIDE, encode_thumbnail
from shared.imaging.tiling import Box, Pixels

Labels = NDArray[np.integer]

COLOURS = 7  # of the palette that differ
DIM, STRETCHED = 110.0, 99.9  # a picture is brightened if only 0.1 % of it are brighter than 110 grey levels


def draw_labelled_thumbnail(overview: Pixels, labels: Labels | None) -> bytes:
    """A JPEG of an overview (h, w, 3), neither side above 256 px, with an outline around each object.

    `labels` (h, w): 0 is background; as `fit_labels` makes them. Small pictures are enlarged by a whole factor, so that
    outlines do not hide what they surround, and dim ones brightened.
    """
    factor = max(SIDE // max(overview.shape[:2]), 1)
    picture = _brighten(overview).repeat(factor, axis=0).repeat(factor, axis=1)
    if labels is not None:
        enlarged = labels.repeat(factor, axis=0).repeat(factor, axis=1)
        outlined = _find_edges(enlarged)
        picture[outlined] = colour_table()[(enlarged[outlined] - 1) % COLOURS + 1]
    return encode_thumbnail(picture)


def fit_labels(labels: Labels, height: int, width: int) -> Labels:
    """The labels (H, W) at the centres of the pixels of an overview of `height × width` px."""
    rows, columns = labels.shape
    grid = OverviewGrid(full=(rows, columns), overview=(height, width))
    return grid.pick(labels, Box(0, 0, rows, columns))


def _brighten(overview: Pixels) -> Pixels:
    """A copy; of dim pictures one whose brightest pixels are white."""
    bright = float(np.percentile(overview, STRETCHED))
    if bright >= DIM or bright == 0:
        return overview.copy()
    brightened: Pixels = np.clip(overview * (255 / bright), 0, 255).astype(np.uint8)
    return brightened


def _find_edges(labels: Labels) -> NDArray[np.bool_]:
    """Pixels (h, w) of an object that have a pixel of something else beside them; what the border cuts stays open."""
    edges = np.zeros(labels.shape, dtype=bool)
    for axis in (0, 1):
        differs = np.diff(labels, axis=axis) != 0
        before, after = [(0, 1), (0, 0)], [(1, 0), (0, 0)]
        if axis:
            before.reverse()
            after.reverse()
        edges |= np.pad(differs, before) | np.pad(differs, after)
    return edges & (labels > 0)
