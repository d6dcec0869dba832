"""The overlay: the image, scaled to fit a screen, with the outlines of what was found."""

import math
from typing import Any, TypeVar, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from services.worker.writers.palette import colour_table
from shared.imaging.tiling import Box, Pixels

Labels = NDArray[np.integer]
Picked = TypeVar("Picked", bound=NDArray[Any])

SIDE = 1536  # px; larger images are scaled down to it
SMALL = 512  # px; smaller images are enlarged, so that an outline does not hide a nucleus
LARGEST_FACTOR = 8
COLOURS = 7  # of the palette that differ
DIM, STRETCHED = 110.0, 99.9  # a picture is brightened if only 0.1 % of it are brighter than 110 grey levels


class OverviewGrid:
    """Which pixels of an image of `full` (height, width) an overview of `overview` (height, width) px shows."""

    def __init__(self, *, full: tuple[int, int], overview: tuple[int, int]) -> None:
        self._rows = _centres(full[0], overview[0])
        self._columns = _centres(full[1], overview[1])

    def pick(self, numbers: Picked, place: Box) -> Picked:
        """Of the classes or labels (H, W) at `place` those that the overview shows, perhaps none of them."""
        rows, columns = self.locate(place)
        return cast("Picked", numbers[self._rows[rows] - place.top][:, self._columns[columns] - place.left])

    def locate(self, place: Box) -> tuple[slice, slice]:
        """Where in the overview they are shown."""
        rows = np.searchsorted(self._rows, [place.top, place.bottom])
        columns = np.searchsorted(self._columns, [place.left, place.right])
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))


class ShownLabels:
    """The labels that an overview shows, of an image whose labels come block by block."""

    def __init__(self, *, full: tuple[int, int], overview: tuple[int, int]) -> None:
        """Height and width of the image, and of the overview, px."""
        self._grid = OverviewGrid(full=full, overview=overview)
        self.labels = np.zeros(overview, dtype=np.uint32)

    def add(self, block: Box, labels: NDArray[np.uint32]) -> None:
        """The labels (h, w) of a block. Blocks come in any order; none given: background."""
        self.labels[self._grid.locate(block)] = self._grid.pick(labels, block)


def draw_objects(overview: Pixels, labels: Labels, classes: Pixels) -> bytes:
    """A PNG of the overview (h, w, 3) with a contour around each object of the labels (h, w), in its class's colour.

    Contours run inside their objects, so that of two that touch each has its own, and around holes, too.

    Args:
        overview: the image, scaled down as `SIDE` says, or a small image itself; it is enlarged.
        labels: of the pixels at the centres of the overview's, 0 = background.
        classes: (largest label + 1,), the class of each object, 1 if there is but one.
    """
    factor = min(math.ceil(SMALL / max(labels.shape)), LARGEST_FACTOR)
    picture = overview.repeat(factor, axis=0).repeat(factor, axis=1)
    enlarged = labels.repeat(factor, axis=0).repeat(factor, axis=1)
    edges = find_edges(enlarged)
    if factor > 1:  # there is room for lines of two pixels
        edges |= find_edges(np.where(edges, 0, enlarged))
    picture[edges] = colour_table()[classes[enlarged[edges]]]
    # In photographs hardly anything repeats: looking for more than runs takes half as long again, for larger files.
    strategy = imagecodecs.PNG.STRATEGY.DEFAULT if factor > 1 else imagecodecs.PNG.STRATEGY.RLE
    return bytes(imagecodecs.png_encode(picture, level=1, strategy=strategy, filter=imagecodecs.PNG.FILTER.UP))


def find_edges(labels: Labels) -> NDArray[np.bool_]:
    """Pixels (h, w) of an object beside one of another, or of none; what the border cuts off is left open there."""
    edges = np.zeros(labels.shape, dtype=bool)
    differ = labels[1:] != labels[:-1]
    edges[1:] |= differ
    edges[:-1] |= differ
    differ = labels[:, 1:] != labels[:, :-1]
    edges[:, 1:] |= differ
    edges[:, :-1] |= differ
    return edges & (labels > 0)


def outline_objects(picture: Pixels, labels: Labels) -> Pixels:
    """A copy of a picture (h, w, 3) with an outline in each object of the labels (h, w), in one of seven colours."""
    edges, drawn = find_edges(labels), picture.copy()
    drawn[edges] = colour_table()[(labels[edges] - 1) % COLOURS + 1]
    return drawn


def brighten(picture: Pixels) -> Pixels:
    """A dim picture (h, w, 3) so that its brightest pixels are white; others as they are."""
    bright = float(np.percentile(picture, STRETCHED))
    if bright >= DIM or bright == 0:
        return picture
    brightened: Pixels = np.clip(picture * (255 / bright), 0, 255).astype(np.uint8)
    return brightened


def _centres(full: int, overview: int) -> NDArray[np.intp]:
    """For each pixel of the overview the full-size pixel at its centre."""
    return ((np.arange(overview) + 0.5) * full / overview).astype(np.intp)
