"""Pictures of a report: an image no larger than a stamp, with the outlines of what is marked in it."""

import numpy as np
from numpy.typing import NDArray

from services.worker.writers.overlay import OverviewGrid, brighten, outline_objects
from shared.examination.thumbnails import SIDE, encode_thumbnail
from shared.imaging.tiling import Box, Pixels

Labels = NDArray[np.integer]


def draw_labelled_thumbnail(overview: Pixels, labels: Labels | None) -> bytes:
    """A JPEG of an overview (h, w, 3), neither side above 256 px, with an outline around each object.

    `labels` (h, w): 0 is background; as `fit_labels` makes them. Small pictures are enlarged by a whole factor, so that
    outlines do not hide what they surround, and dim ones brightened.
    """
    factor = max(SIDE // max(overview.shape[:2]), 1)
    picture = brighten(overview).repeat(factor, axis=0).repeat(factor, axis=1)
    if labels is not None:
        picture = outline_objects(picture, labels.repeat(factor, axis=0).repeat(factor, axis=1))
    return encode_thumbnail(picture)


def fit_labels(labels: Labels, height: int, width: int) -> Labels:
    """The labels (H, W) at the centres of the pixels of an overview of `height × width` px."""
    rows, columns = labels.shape
    grid = OverviewGrid(full=(rows, columns), overview=(height, width))
    return grid.pick(labels, Box(0, 0, rows, columns))
