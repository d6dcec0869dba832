"""From probabilities to a mask: which class each pixel belongs to."""

import numpy as np

from shared.imaging.tiling import Pixels

LEVELS = 255  # uint8 probabilities are p × 255, rounded


def find_classes(planes: Pixels, *, threshold: float) -> Pixels:
    """Probabilities (1 … 256 planes, H, W) → class per pixel (H, W), 0 = background.

    One plane: class 1 where the probability reaches `threshold` (0 … 1). More: the most probable class, the first of
    equals; the threshold is not used.
    """
    if planes.shape[0] == 1:
        return np.asarray(planes[0] >= threshold * LEVELS, dtype=np.uint8)
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
