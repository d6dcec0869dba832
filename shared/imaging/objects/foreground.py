"""Which pixels belong to objects, and in which of them an object may begin."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.imaging.masks import LEVELS, close_mask, find_classes
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.tiling import Pixels

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Region:
    """The foreground of an image, or of a window of it."""

    classes: Pixels  # (H, W), 0 = background
    inside: Mask  # (H, W), foreground in which an object may begin; without such a pixel there is no object


def find_region(planes: Pixels, rules: ObjectRules) -> Region:
    """Probabilities (C, H, W), uint8, → the cleaned foreground: classes, median, closing, holes, in this order.

    A pixel that the median or a filled hole adds takes the highest class nearby other than the border's; gaps are
    closed as those of a mask are. Unless of the border's class, what was added counts as inside, however improbable.
    Pixels at least `foreground_reach` px from a side at which a window was cut out are what the whole image has there.
    """
    found = find_classes(planes, threshold=rules.threshold)
    classes = _smooth(found, rules) if rules.median else found
    classes = close_mask(classes, rules.closing)
    classes = _fill_holes(classes, rules) if rules.fill_holes else classes
    return Region(classes, _find_inside(planes, found, classes, rules))


def foreground_reach(rules: ObjectRules) -> int:
    """How far away a pixel can lie that `find_region` looks at, px."""
    return rules.median + 2 * rules.closing + (_longest_hole(rules) if rules.fill_holes else 0)


def _find_inside(planes: Pixels, found: Pixels, classes: Pixels, rules: ObjectRules) -> Mask:
    """Foreground (H, W) that is neither of the border's class nor less probable, by its own class, than a seed."""
    inside: Mask = classes > 0
    if rules.border_class is not None:
        inside &= classes != rules.border_class
    if rules.seed_threshold is not None:
        level = math.ceil(rules.seed_threshold * LEVELS)
        own = planes[-1] if planes.shape[0] <= 2 else np.take_along_axis(planes, found[None], axis=0)[0]
        inside &= (own >= level) | (found == 0)
    return inside


def _smooth(classes: Pixels, rules: ObjectRules) -> Pixels:
    """Median of the foreground in the square of ± `rules.median` px; the border's pixels are repeated beyond it."""
    side = 2 * rules.median + 1
    mask = np.where(classes > 0, np.uint8(1), np.uint8(0))
    smooth = np.asarray(cv2.medianBlur(mask, side), dtype=np.bool_)
    nearby = np.asarray(cv2.dilate(_rank(classes, rules), np.ones((side, side), dtype=np.uint8)), dtype=np.uint8)
    added = _unrank(nearby, rules)
    return np.where(smooth, np.where(classes > 0, classes, added), 0).astype(np.uint8)


def _fill_holes(classes: Pixels, rules: ObjectRules) -> Pixels:
    """Fill what 8-connected background of at most `rules.fill_holes` px², away from the border, the foreground holds.

    A hole longer than four times the side of a square of that area is a gap between objects, and stays. So no pixel
    further away than that is looked at, and what touches a window's side is no hole of the whole image either.
    """
    height, width = classes.shape
    outside = np.where(classes == 0, np.uint8(1), np.uint8(0))
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=8, ltype=cv2.CV_32S)
    left, top, wide, high, area = np.asarray(stats).T
    within = (left > 0) & (top > 0) & (left + wide < width) & (top + high < height)
    small = (area <= rules.fill_holes) & (np.maximum(wide, high) <= _longest_hole(rules))
    holes = within & small
    holes[0] = False  # number 0 is the foreground
    places = np.flatnonzero(holes[numbers])
    owners = numbers.ravel()[places].astype(np.intp)
    ranks = _rank(classes, rules).ravel()
    rims = np.zeros(area.size, dtype=np.uint8)
    for step in (-width, -1, 1, width):
        np.maximum.at(rims, owners, ranks[places + step])
    filled = classes.copy()
    filled.ravel()[places] = _unrank(rims[owners], rules)
    return filled


def _longest_hole(rules: ObjectRules) -> int:
    """The longest side of the box around a hole that is filled, px."""
    return min(rules.fill_holes, math.ceil(4 * math.sqrt(rules.fill_holes)))


def _rank(classes: Pixels, rules: ObjectRules) -> Pixels:
    """Classes in the order in which they take what is added: the border's below all others, background 0."""
    if rules.border_class is None:
        return classes
    order = np.arange(256, dtype=np.uint8)
    order[1 : rules.border_class + 1] = np.roll(order[1 : rules.border_class + 1], -1)
    return order[classes]


def _unrank(ranks: Pixels, rules: ObjectRules) -> Pixels:
    """The classes that have these ranks."""
    if rules.border_class is None:
        return ranks
    order = np.arange(256, dtype=np.uint8)
    order[1 : rules.border_class + 1] = np.roll(order[1 : rules.border_class + 1], 1)
    return order[ranks]
