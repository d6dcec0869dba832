"""From probabilities to a mask: which class each pixel belongs to."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from shared.imaging.tiling import Pixels

LEVELS = 255  # uint8 probabilities are p × 255, rounded


def find_classes(planes: Pixels, *, threshold: float) -> Pixels:
    """Probabilities (1 … 256 planes, H, W) → class per pixel (H, W), 0 = background.

    One plane, or two of which the first is the background: class 1 where its probability reaches `threshold` (0 … 1).
    More: the most probable class, the first of equals; the threshold is not used.
    """
    if planes.shape[0] <= 2:
        return np.asarray(planes[-1] >= threshold * LEVELS, dtype=np.uint8)
    return np.asarray(planes.argmax(axis=0), dtype=np.uint8)


def find_outlines(classes: Pixels) -> Pixels:
    """Class per pixel (H, W) → the same, but 0 wherever all neighbours have the pixel's class.

    Neighbours are the four pixels next to it, fewer at the border: what the border cuts off is left open there.
    """
    same = np.ones(classes.shape, dtype=bool)
    same[1:] &= classes[1:] == classes[:-1]
    same[:-1] &= classes[:-1] == classes[1:]
    same[:, 1:] &= classes[:, 1:] == classes[:, :-1]
    same[:, :-1] &= classes[:, :-1] == classes[:, 1:]
    return np.where(same, 0, classes).astype(np.uint8)


def close_mask(classes: Pixels, radius: int) -> Pixels:
    """Fill gaps narrower than a disc of `radius` px in each class of (H, W); a gap goes to the highest class.

    Morphological closing (Serra 1982): dilation, then erosion. Beyond the border lies what mirroring would show, so
    that the border itself neither grows nor shrinks. 0 changes nothing.
    """
    if radius == 0:
        return classes
    margin = 2 * radius
    padded = np.pad(classes, margin, mode="symmetric")
    closed = padded.copy()
    for number in np.unique(classes[classes > 0]):
        gaps = ndimage.binary_closing(padded == number, disc(radius)) & (padded == 0)
        closed[gaps] = number
    return np.ascontiguousarray(closed[margin:-margin, margin:-margin])


def close_strips(strips: Iterable[Pixels], radius: int) -> Iterator[Pixels]:
    """As `close_mask`, of an image that comes in strips (rows, W) from top to bottom; gives strips of the same heights.

    A strip is closed together with as many rows above and below it as the disc can reach, however many strips these
    are of.
    """
    if radius == 0:
        yield from strips
        return
    reach = 2 * radius
    above: Pixels | None = None
    waiting: deque[Pixels] = deque()
    for strip in strips:
        waiting.append(strip)
        while sum(len(later) for later in islice(waiting, 1, None)) >= reach:
            yield _close_first(above, waiting, radius)
            above = _last_rows(above, waiting.popleft(), reach)
    while waiting:
        yield _close_first(above, waiting, radius)
        above = _last_rows(above, waiting.popleft(), reach)


def disc(radius: int) -> NDArray[np.bool_]:
    """(2 radius + 1)² pixels, true up to `radius` px from the middle."""
    steps = np.arange(-radius, radius + 1)
    return np.hypot(steps[:, None], steps) <= radius


def _close_first(above: Pixels | None, strips: Iterable[Pixels], radius: int) -> Pixels:
    """The first of the strips, closed as part of what lies `above` it and the others below."""
    first, *below = strips
    reached = np.concatenate([first, *below])[: len(first) + 2 * radius]
    if above is None:
        return close_mask(reached, radius)[: len(first)]
    return close_mask(np.concatenate([above, reached]), radius)[len(above) :][: len(first)]


def _last_rows(above: Pixels | None, strip: Pixels, rows: int) -> Pixels:
    """What lies above the next strip, as far as it matters."""
    joined = strip if above is None else np.concatenate([above, strip[-rows:]])
    return joined[-rows:]
