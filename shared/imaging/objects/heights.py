"""How deep a pixel lies in its object: whole numbers, the same in every window that sees far enough."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.imaging.objects.foreground import Region
from shared.imaging.objects.merging import NEVER, Depth
from shared.imaging.objects.rules import ObjectRules

Heights = NDArray[np.uint16]  # (H, W), 0 = background, foreground 1 …

UNITS = 256  # of height per px


def find_heights(region: Region, rules: ObjectRules) -> Heights:
    """The smoothed distance to the outline of `region.inside` (H, W): positive within, negative outside, moved up.

    Distances are lengths of paths of steps to the 24 pixels around (Borgefors 1986, a 5 × 5 chamfer mask: at most 2 %
    from the straight line), end at `rules.farthest` px, and are smoothed by a Gaussian in fixed point. The image's
    border is no outline: nothing is known of what lies beyond. Pixels at least `heights_reach` px from a side at which
    a window was cut out have the heights of the whole image, to the bit. (On processors for which OpenCV was built in
    another way, a distance may round differently: an image's blocks are best labelled on one kind.)
    """
    inside = np.where(region.inside, np.uint8(1), np.uint8(0))
    signed = _measure_distance(inside, rules.farthest)
    signed -= _measure_distance(np.uint8(1) - inside, rules.farthest)
    signed += np.float32(rules.farthest)
    signed *= np.float32(UNITS)
    heights = np.rint(signed, out=signed).astype(np.uint16)
    if rules.smoothing > 0:
        side = 2 * _kernel_reach(rules) + 1
        heights = np.asarray(
            cv2.GaussianBlur(
                heights,
                (side, side),
                rules.smoothing,
                borderType=cv2.BORDER_REPLICATE,
                hint=cv2.ALGO_HINT_ACCURATE,  # bit-exact: not the processor's own way
            ),
            dtype=np.uint16,
        )
    np.maximum(heights, 1, out=heights)
    heights[region.classes == 0] = 0
    return heights


def heights_reach(rules: ObjectRules) -> int:
    """How far away a pixel can lie that `find_heights` looks at, px."""
    return rules.farthest + (_kernel_reach(rules) if rules.smoothing > 0 else 0)


def find_depth(rules: ObjectRules) -> Depth:
    """By how much tops must stand out to stay apart, in units of height; at least one, so that plateaus stay whole."""
    if rules.method == "components":
        return NEVER
    least = max(1, round(rules.depth * UNITS))
    return Depth(least, round(rules.relative_depth * 1000), base=rules.farthest * UNITS)


def _measure_distance(mask: NDArray[np.uint8], farthest: int) -> NDArray[np.float32]:
    """Px (H, W) to the nearest pixel that is 0, at most `farthest`; also where there is none."""
    distance = np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5), dtype=np.float32)
    return np.minimum(distance, np.float32(farthest), out=distance)


def _kernel_reach(rules: ObjectRules) -> int:
    """Half the side of the Gaussian's square, px."""
    return math.ceil(3 * rules.smoothing)
