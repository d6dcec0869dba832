"""The overlay: the image, scaled to fit a screen, with the outlines of what was found."""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.worker.writers.palette import colour_table
from shared.imaging.masks import find_outlines
from shared.imaging.tiling import Pixels

SIDE = 1536  # px; larger images are scaled down to it
SMALL = 768  # px; smaller images are enlarged, so that an outline does not hide a nucleus
LARGEST_FACTOR = 8


class OverviewMask:
    """Picks from the strips of a mask the pixels that an overview of `height × width` px shows."""

    def __init__(self, *, full: tuple[int, int], overview: tuple[int, int]) -> None:
        self._rows = _centres(full[0], overview[0])
        self._columns = _centres(full[1], overview[1])
        self._mask = np.zeros(overview, dtype=np.uint8)
        self._top = 0

    def add(self, strip: Pixels) -> None:
        """Take the next strip of the full mask (rows, full width), from top to bottom."""
        bottom = self._top + strip.shape[0]
        first, last = np.searchsorted(self._rows, [self._top, bottom])
        self._mask[first:last] = strip[self._rows[first:last] - self._top][:, self._columns]
        self._top = bottom

    @property
    def mask(self) -> Pixels:
        """Class per pixel of the overview."""
        return self._mask


def draw_overlay(overview: Pixels, mask: Pixels) -> bytes:
    """A PNG of the overview (h, w, 3) with the outlines of the mask (h, w) drawn on it."""
    factor = min(math.ceil(SMALL / max(mask.shape)), LARGEST_FACTOR)
    picture = overview.repeat(factor, axis=0).repeat(factor, axis=1)
    classes = mask.repeat(factor, axis=0).repeat(factor, axis=1)
    outlines = find_outlines(classes)
    if factor > 1:  # there is room for lines of two pixels
        outlines = np.maximum(outlines, find_outlines(np.where(outlines > 0, 0, classes).astype(np.uint8)))
    drawn = outlines > 0
    picture[drawn] = colour_table()[outlines[drawn]]
    png = io.BytesIO()
    Image.fromarray(picture).save(png, format="PNG", compress_level=3)  # 4 % larger, in two thirds of the time
    return png.getvalue()


def _centres(full: int, overview: int) -> NDArray[np.intp]:
    """For each pixel of the overview the full-size pixel at its centre."""
    return ((np.arange(overview) + 0.5) * full / overview).astype(np.intp)
