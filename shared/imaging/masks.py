"""From probabilities to a mask: which class each pixel belongs to."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from shared.imaging.tiling import Box, Pixels

LEVELS = 255  # uint8 probabilities are p × 255, rounded


def find_classes(planes: Pixels, *, threshold: float) -> Pixels:
    """Probabilities (1 … 256 planes, H, W) → class per pixel (H, W), 0 = background.

    One plane, or two of which the first is the background: class 1 where its probability reaches `threshold` (0 … 1).
    More: the most probable class, the first of equals; the threshold is not used.
    """
    if planes.shape[0] <= 2:
        return np.asarray(planes[-1] >= threshold * LEVELS, dtype=np.uint8)
    return np.asarray(planes.argmax(axis=0), dtype=np.uint8)


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


def close_box(read: Callable[[Box], Pixels], box: Box, radius: int, *, height: int, width: int) -> Pixels:
    """The box of the whole mask of `height × width` px, as `close_mask` closes it, without holding the whole.

    `read` gives the classes (H, W) of a box inside the image; as much around is asked for as the disc can reach.
    """
    around = box.grow(2 * radius).intersect(Box(0, 0, height, width))
    closed = close_mask(read(around), radius)
    return closed[box.move(-around.top, -around.left).slices()]


def disc(radius: int) -> NDArray[np.bool_]:
    """(2 radius + 1)² pixels, true up to `radius` px from the middle."""
    steps = np.arange(-radius, radius + 1)
    return np.hypot(steps[:, None], steps) <= radius
