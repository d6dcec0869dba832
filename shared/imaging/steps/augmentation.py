"""The augmented set: twenty variants of an image and its truth, the same ones whenever they are made.

The published configuration says twenty-fold, and of which kinds and sizes its changes are, but not which twenty. These
are: the eight symmetries of the square, which lose nothing (0 is the image itself), and two of each kind besides:

     0 – 7   as it is; turned by 90, 180, 270°; the same four, flipped left to right first
     8, 9    smaller, larger: by 5 … 10 %
    10, 11   shifted by 10 … 20 px along each axis, to the one side and to the other
    12, 13   sheared by 5 … 10°, to the one side and to the other
    14, 15   less and more contrast: values times 0.8 … 0.9, and 1.1 … 1.2
    16, 17   darker and brighter: values minus and plus 10 … 20
    18, 19   elastic: smooth displacements, from a grid of 3 × 3 normally distributed vectors of 10 px (Ronneberger et
             al. 2015, section 3.1), with cubic splines between them

Shifts and elastic vectors are given for images of 512 px, as published, and shrink with the shorter side of smaller
ones. What comes from outside the image is its mirror image, in which objects that the border does not cut get numbers
of their own. How much, within its bounds, is drawn from the seed, the image's digest and the variant's number.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from shared.imaging.steps.truth import Labels, Truth
from shared.imaging.tiling import Pixels

VARIANTS = 20
SYMMETRIES = 8
SHIFT = 20.0  # px, at most
ELASTIC = 10.0  # px, standard deviation
PUBLISHED_SIDE = 512  # px, of the images that these were given for
KINDS = (
    *("smaller", "larger", "shifted down and right", "shifted up and left", "sheared", "sheared the other way"),
    *("less contrast", "more contrast", "darker", "brighter", "elastic", "elastic, other vectors"),
)
NODES = 3  # of the elastic grid along a side

Reals = NDArray[np.float64]
Index = NDArray[np.int64]


def augment(pixels: Pixels, truth: Truth, variant: int, *, seed: int, digest: str) -> tuple[Pixels, Truth]:
    """A variant (0 … 19) of an image (H, W, C) and of its truth; turned by 90 or 270° it is (W, H, C).

    `digest`: names the image's content, such as its sha256.

    Raises:
        ValueError: there is no such variant.
    """
    if not 0 <= variant < VARIANTS:
        raise ValueError(f"variants are numbered 0 … {VARIANTS - 1}, there is no {variant}")
    if variant < SYMMETRIES:
        return _move(pixels, variant), truth.each(lambda plane: _move(plane, variant))
    draw = np.random.default_rng(list(hashlib.sha256(f"{seed} {digest} {variant}".encode()).digest()))
    if variant in (14, 15, 16, 17):
        return _change_values(pixels, variant, draw), truth
    height, width = pixels.shape[:2]
    rows, columns = _find_places(height, width, variant, draw)
    return _sample(pixels, rows, columns), _sample_truth(truth, rows, columns)


def describe(variant: int) -> str:
    """In words, for the record of an image's provenance."""
    if variant < SYMMETRIES:
        turned = f"turned by {variant % 4 * 90}°"
        return turned if variant < 4 else f"flipped, {turned}"
    return KINDS[variant - SYMMETRIES]


def _move(plane: NDArray[Any], variant: int) -> NDArray[Any]:
    flipped = plane[:, ::-1] if variant >= 4 else plane
    return np.ascontiguousarray(np.rot90(flipped, variant % 4))


def _change_values(pixels: Pixels, variant: int, draw: Generator) -> Pixels:
    sign = -1 if variant % 2 == 0 else 1
    amount = sign * draw.uniform(0.5, 1.0)
    changed = pixels * (1 + 0.2 * amount) if variant < 16 else pixels + 20 * amount
    rounded: Pixels = np.rint(changed.clip(0, 255)).astype(np.uint8)
    return rounded


def _find_places(height: int, width: int, variant: int, draw: Generator) -> tuple[Reals, Reals]:
    """Rows and columns (H, W) that the variant's pixels come from; some lie outside the image."""
    rows, columns = np.arange(height, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)
    sign, amount = (-1 if variant % 2 == 0 else 1), draw.uniform(0.5, 1.0, size=2)
    part = min(min(height, width) / PUBLISHED_SIDE, 1.0)
    if variant in (8, 9):
        factor = 1 + sign * 0.1 * amount[0]
        rows, columns = (_about(places, size, factor) for places, size in ((rows, height), (columns, width)))
    elif variant in (10, 11):
        rows, columns = rows + sign * SHIFT * part * amount[0], columns + sign * SHIFT * part * amount[1]
    elif variant in (12, 13):
        columns = columns + sign * np.tan(np.radians(10 * amount[0])) * (rows - (height - 1) / 2)
    else:
        vectors = draw.normal(0, ELASTIC * part, size=(2, NODES, NODES))
        down, across = (_spread(grid, height, width) for grid in vectors)
        rows, columns = rows + down, columns + across
    shape = height, width
    return np.broadcast_to(rows, shape).copy(), np.broadcast_to(columns, shape).copy()


def _about(places: Reals, size: int, factor: float) -> Reals:
    """Where the pixels of something `factor` times as large about its middle come from."""
    middle = (size - 1) / 2
    return (places - middle) / factor + middle


def _spread(grid: Reals, height: int, width: int) -> Reals:
    """Values at nodes (3, 3) from corner to corner → for each pixel (H, W), by cubic splines."""
    rows, columns = (np.linspace(0, NODES - 1, size) for size in (height, width))
    places = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(ndimage.map_coordinates(grid, places, order=3, mode="nearest"), dtype=np.float64)


def _sample(pixels: Pixels, rows: Reals, columns: Reals) -> Pixels:
    """Bilinearly, mirrored outside."""
    planes = [
        ndimage.map_coordinates(plane, [rows, columns], output=np.float64, order=1, mode="mirror")
        for plane in np.moveaxis(pixels, 2, 0)
    ]
    return np.ascontiguousarray(np.rint(np.stack(planes, axis=2)).clip(0, 255).astype(np.uint8))


def _sample_truth(truth: Truth, rows: Reals, columns: Reals) -> Truth:
    """The nearest pixel, mirrored outside."""
    plane = truth.labels if truth.labels is not None else truth.classes
    if plane is None:
        return truth
    (row, down), (column, across) = _fold(rows, plane.shape[0]), _fold(columns, plane.shape[1])
    classes = None if truth.classes is None else truth.classes[row, column]
    if truth.labels is None:
        return Truth(None, classes)
    return Truth(_part_mirrored(truth.labels, truth.labels[row, column], down, across), classes)


def _fold(places: Reals, size: int) -> tuple[Index, Index]:
    """The nearest pixels of an axis, mirrored about the first and the last; and how often each was mirrored."""
    nearest = np.rint(places).astype(np.int64)
    if size == 1:
        return np.zeros_like(nearest), np.sign(nearest)
    period = 2 * (size - 1)
    folded = nearest % period
    return np.minimum(folded, period - folded), np.where(nearest < 0, -1, np.where(nearest > size - 1, 1, 0))


def _part_mirrored(labels: Labels, sampled: Labels, down: Index, across: Index) -> Labels:
    """Mirror images of objects get numbers of their own, unless they go on where the border cuts the object."""
    count = int(labels.max(initial=0)) + 1
    above, below, left, right = (_touches(edge, count) for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]))
    down = np.where((down < 0) & above[sampled] | (down > 0) & below[sampled], 0, down)
    across = np.where((across < 0) & left[sampled] | (across > 0) & right[sampled], 0, across)
    is_copy = ((down != 0) | (across != 0)) & (sampled > 0)
    result = sampled.copy()
    keys = (sampled[is_copy].astype(np.int64) * 3 + down[is_copy] + 1) * 3 + across[is_copy] + 1
    _, places = np.unique(keys, return_inverse=True)
    result[is_copy] = count + places
    return result


def _touches(edge: Labels, count: int) -> NDArray[np.bool_]:
    """Of each number whether it occurs on the edge."""
    found = np.zeros(count, dtype=np.bool_)
    found[edge] = True
    return found
