"""The overlay: the image, scaled to fit a screen, with the outlines of what was found."""

import math

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from services.worker.writers.palette import colour_table
from shared.imaging.masks import find_outlines
from shared.imaging.tiling import Box, Pixels

SIDE = 1536  # px; larger images are scaled down to it
SMALL = 512  # px; smaller images are enlarged, so that an outline does not hide a nucleus
LARGEST_FACTOR = 8


class OverviewGrid:
    """Which pixels of an image of `full` (height, width) an overview of `overview` (height, width) px shows."""

    def __init__(self, *, full: tuple[int, int], overview: tuple[int, int]) -> None:
        self._rows = _centres(full[0], overview[0])
        self._columns = _centres(full[1], overview[1])

    def pick(self, classes: Pixels, place: Box) -> Pixels:
        """Of the classes (H, W) at `place` those that the overview shows, perhaps none of them."""
        rows, columns = self.locate(place)
        return classes[self._rows[rows] - place.top][:, self._columns[columns] - place.left]

    def locate(self, place: Box) -> tuple[slice, slice]:
        """Where in the overview they are shown."""
        rows = np.searchsorted(self._rows, [place.top, place.bottom])
        columns = np.searchsorted(self._columns, [place.left, place.right])
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))


def draw_overlay(overview: Pixels, mask: Pixels) -> bytes:
    """A PNG of the overview (h, w, 3) with the outlines of the mask (h, w) drawn on it."""
    factor = min(math.ceil(SMALL / max(mask.shape)), LARGEST_FACTOR)
    picture = overview.repeat(factor, axis=0).repeat(factor, axis=1)
    classes = mask.repeat(factor, axis=0).repeat(factor, axis=1)
    outlines = find_outlines(classes)
    if factor > 1:  # there is room for lines of two pixels
        outlines = np.maximum(outlines, find_outlines(np.where(outlines > 0, 0, classes).astype(np.uint8)))
    drawn = np.flatnonzero(outlines)
    picture.reshape(-1, 3)[drawn] = colour_table()[outlines.ravel()[drawn]]
    # In photographs hardly anything repeats: looking for more than runs takes half as long again, for larger files.
    strategy = imagecodecs.PNG.STRATEGY.DEFAULT if factor > 1 else imagecodecs.PNG.STRATEGY.RLE
    return bytes(imagecodecs.png_encode(picture, level=1, strategy=strategy, filter=imagecodecs.PNG.FILTER.UP))


def _centres(full: int, overview: int) -> NDArray[np.intp]:
    """For each pixel of the overview the full-size pixel at its centre."""
    return ((np.arange(overview) + 0.5) * full / overview).astype(np.intp)
