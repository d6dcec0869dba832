"""What the numbers in a mask file mean: from the file to the class of each pixel."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import Rejected
from shared.imaging.tiling import Pixels
from shared.schemas.training import MasksIn
from shared.slides.planes import open_tiff
from shared.slides.tiff import DAMAGE

MOST_VALUES = 1_000_000_000  # in one mask

Labels = NDArray[np.int32]
_TIFF = (b"II", b"MM")
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # half of the eight: the others are these, seen from the other pixel


@dataclass(frozen=True)
class Truth:
    """What a mask says about its image."""

    mask: Pixels  # (H, W), index of the class, 0 = background
    labels: Labels | None  # (H, W), 1, 2, … for the objects, if the mask tells them apart


def read_mask(path: Path, name: str) -> NDArray[np.generic]:
    """The values of a PNG or TIFF, one per pixel (H, W), of any integer type or bool.

    Raises:
        Rejected: the file is damaged, or has more than one value per pixel or fractions.
    """
    try:
        with path.open("rb") as file:
            is_tiff = file.read(2) in _TIFF
        if is_tiff:
            with open_tiff(path) as tiff:
                _refuse_large(math.prod(tiff.series[0].shape))
                values: NDArray[np.generic] = tiff.asarray()
        else:
            with Image.open(path, formats=("PNG",)) as image:
                _refuse_large(image.width * image.height)
                values = np.asarray(image)
        if values.size == 0:
            raise ValueError("no pixels")
    except (*DAMAGE, SyntaxError, Image.DecompressionBombError) as error:
        raise Rejected(f"{name}: the mask is no readable PNG or TIFF ({error}); export it again") from error
    values = _drop_colour(values.squeeze() if values.ndim > 3 else values)
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise Rejected(
            f"{name}: a mask has one whole number per pixel, this one has shape {values.shape} of {values.dtype}; "
            "save it as a grey PNG or TIFF of 8 or 16 bits"
        )
    return values


def _refuse_large(values: int) -> None:
    """Before anything is decoded: what a header announces may be more than memory holds."""
    if values > MOST_VALUES:
        raise ValueError(f"{values} values, more than {MOST_VALUES}")


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


def number_objects(values: NDArray[np.generic]) -> Labels:
    """Whole numbers (H, W), any above 0 for an object, → 1, 2, … in their order, 0 elsewhere."""
    numbers = np.where(values > np.zeros((), values.dtype), values, np.zeros((), values.dtype))
    found, places = np.unique(numbers, return_inverse=True)
    first = 0 if found[0] == 0 else 1
    return (places.reshape(values.shape) + first).astype(np.int32)


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


def _drop_colour(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """(H, W, 3 or 4) → (H, W) if it is grey saved as colour; otherwise as it is."""
    if values.ndim == 3 and values.shape[2] in (3, 4) and (values[:, :, :3] == values[:, :, :1]).all():
        return values[:, :, 0]
    return values


def _to_classes(values: NDArray[np.generic], name: str, classes: int) -> Pixels:
    numbers = values.astype(np.int64)
    wrong = numbers[(numbers < 0) | (numbers >= classes)]
    if wrong.size:
        raise Rejected(
            f"{name}: the mask holds the value {wrong.flat[0]}, but with {classes} classes only 0 … {classes - 1} have "
            f"a meaning; order more classes, or one class and masks of kind instances if the values number single cells"
        )
    return numbers.astype(np.uint8)
