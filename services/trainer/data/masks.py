"""What the numbers in a mask mean to a network: from values to the class of each pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.annotations import number_objects
from shared.errors import Rejected
from shared.imaging.tiling import Pixels
from shared.schemas.training import MasksIn

Labels = NDArray[np.int32]
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # half of the eight: the others are these, seen from the other pixel


@dataclass(frozen=True)
class Truth:
    """What a mask says about its image."""

    mask: Pixels  # (H, W), index of the class, 0 = background
    labels: Labels | None  # (H, W), 1, 2, … for the objects, if the mask tells them apart


def find_truth(values: NDArray[np.generic], order: MasksIn, *, name: str, classes: int) -> Truth:
    """From the values of a mask (H, W) to what they mean. Values below 0 are background in all but class masks.

    Raises:
        Rejected: the mask holds a class that was not ordered.
    """
    if order.kind == "classes":
        return Truth(_to_classes(values, name, classes), None)
    zero = np.zeros((), values.dtype)
    if order.kind == "binary":
        foreground = values == zero if order.foreground == "zero" else values > zero
        return Truth(foreground.astype(np.uint8), None)
    labels = number_objects(values)
    if order.separate:
        labels = separate(labels)
    return Truth((labels > 0).astype(np.uint8), labels)


def separate(labels: Labels) -> Labels:
    """The labels (H, W) with a line of background, 1 px wide, between all that touch, also at corners.

    The larger of two objects yields its pixels, so that small ones do not vanish between their neighbours.
    """
    sizes = np.bincount(labels.ravel())
    ranks = np.empty(sizes.size, np.int32)
    ranks[np.argsort(sizes, kind="stable")] = np.arange(sizes.size)  # no two alike: one side yields all along
    height, width = labels.shape
    yielding = np.zeros(labels.shape, bool)
    for down, right in _NEIGHBOURS:
        here = slice(0, height - down), slice(max(0, -right), width - max(0, right))
        there = slice(down, height), slice(max(0, right), width + min(0, right))
        one, other = labels[here], labels[there]
        touch = (one != other) & (one > 0) & (other > 0)
        is_larger = ranks[one] > ranks[other]
        yielding[here] |= touch & is_larger
        yielding[there] |= touch & ~is_larger
    return np.where(yielding, np.int32(0), labels)


def _to_classes(values: NDArray[np.generic], name: str, classes: int) -> Pixels:
    numbers = values.astype(np.int64)
    wrong = numbers[(numbers < 0) | (numbers >= classes)]
    if wrong.size:
        raise Rejected(
            f"{name}: the mask holds the value {wrong.flat[0]}, but with {classes} classes only 0 … {classes - 1} have "
            f"a meaning; order more classes, or one class and masks of kind instances if the values number single cells"
        )
    return numbers.astype(np.uint8)
