"""Opening, closing and boundaries by a disc, of one object or class after another (Serra 1982).

By distances: a pixel is left of an erosion by a disc of radius r if the nearest pixel outside is further away than r.
That takes as long for a large disc as for a small one, and gives what the discs themselves would.
"""

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from shared.imaging.tiling import Box, plan_blocks

Mask = NDArray[np.bool_]
Numbers = NDArray[np.integer]  # (H, W), of objects or of classes; 0 = background

Check = Callable[[], None]  # raises to break off what takes long

BLOCK = 2048  # px, side of what is worked out at once: distances take some forty bytes a pixel


def go_on() -> None:
    """The check of who never breaks off."""


def open_each(numbers: Numbers, radius: int, check: Check) -> Numbers:
    """Parts of an object that no disc within it covers become background. Mirrored beyond the border."""
    result = numbers.copy()
    for number, place in find_places(numbers, check):
        for box, here, opened in _change(numbers, number, place.grow(1), radius, _open):
            result[box.slices()][here & ~opened] = 0
    return result


def close_each(numbers: Numbers, radius: int, check: Check) -> Numbers:
    """Background that no disc outside an object reaches becomes its own; what two could have, the higher number's."""
    result = numbers.copy()
    for number, place in find_places(numbers, check):
        # Beyond the object's box nothing is gained; but whether a disc lies outside is seen a radius further away.
        for box, _, closed in _change(numbers, number, place.grow(radius + 1), radius, _close):
            result[box.slices()][closed & (numbers[box.slices()] == 0)] = number
    return result


def find_differing(numbers: Numbers, radius: int, check: Check) -> Mask:
    """True (H, W) where a pixel of another number, background too, is up to `radius` px away."""
    result = np.zeros(numbers.shape, dtype=np.bool_)
    whole = Box(0, 0, *numbers.shape)
    for number, place in chain([(0, whole)], find_places(numbers, check)):
        window = place.grow(1).intersect(whole)
        for box in _cut(window):
            seen = box.grow(radius).intersect(window)
            here = numbers[seen.slices()] == number
            inner = box.move(-seen.top, -seen.left).slices()
            result[box.slices()] |= (here & ~_erode(here, radius))[inner]
    return result


def find_places(numbers: Numbers, check: Check) -> Iterator[tuple[int, Box]]:
    """Each number above 0, ascending, with its bounding box. `check` is called before each, and may raise."""
    for index, place in enumerate(ndimage.find_objects(numbers)):
        check()
        if place is not None:
            rows, columns = place
            yield index + 1, Box(rows.start, columns.start, rows.stop, columns.stop)


def _change(
    numbers: Numbers, number: int, window: Box, radius: int, change: Callable[[Mask, int], Mask]
) -> Iterator[tuple[Box, Mask, Mask]]:
    """One number in the window around it, block by block: where, what is there, and what becomes of it.

    Of the image, only the window is looked at: beyond it nothing is taken for granted. Where it reaches the image's
    border, the mirror image is seen as far as it counts.
    """
    whole = Box(0, 0, *numbers.shape)
    reach = 2 * radius
    window = window.intersect(whole)
    mirrored = Box(
        window.top - reach * (window.top == 0),
        window.left - reach * (window.left == 0),
        window.bottom + reach * (window.bottom == whole.bottom),
        window.right + reach * (window.right == whole.right),
    )
    for box in _cut(window):
        seen = box.grow(reach).intersect(mirrored)
        inside = seen.intersect(window)
        beyond = (
            (inside.top - seen.top, seen.bottom - inside.bottom),
            (inside.left - seen.left, seen.right - inside.right),
        )
        around = np.pad(numbers[inside.slices()] == number, beyond, mode="symmetric")
        inner = box.move(-seen.top, -seen.left).slices()
        yield box, around[inner], change(around, radius)[inner]


def _cut(window: Box) -> Iterator[Box]:
    return (block.move(window.top, window.left) for block in plan_blocks(window.height, window.width, side=BLOCK))


def _open(mask: Mask, radius: int) -> Mask:
    return ~_erode(~_erode(mask, radius), radius)


def _close(mask: Mask, radius: int) -> Mask:
    return _erode(~_erode(~mask, radius), radius)


def _erode(mask: Mask, radius: int) -> Mask:
    """Beyond the array nothing takes away: scipy knows no distance where all is true, as there is none."""
    if mask.all():
        return mask
    return np.asarray(ndimage.distance_transform_edt(mask) > radius)
