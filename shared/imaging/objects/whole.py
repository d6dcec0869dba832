"""The objects of an image that fits into memory."""

import numpy as np
from numpy.typing import NDArray

from shared.imaging.objects.blocks import label_block
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.tiling import Box, Pixels

Labels = NDArray[np.uint32]


def label_whole(planes: Pixels, rules: ObjectRules) -> Labels:
    """Probabilities (C, H, W), uint8, → objects (H, W): 1 … in the order of their first pixels, 0 = background.

    Objects smaller or larger than the rules allow are left out.
    """
    _, height, width = planes.shape
    block = label_block(
        lambda box: planes[:, box.top : box.bottom, box.left : box.right],
        Box(0, 0, height, width),
        height=height,
        width=width,
        rules=rules,
    )
    return select_by_area(block.labels, rules)


def select_by_area(labels: Labels, rules: ObjectRules) -> Labels:
    """Labels 1 … n (H, W) → those of objects of an area that the rules allow, renumbered in the same order."""
    areas = np.bincount(labels.ravel())
    kept = areas >= rules.min_area
    if rules.max_area is not None:
        kept &= areas <= rules.max_area
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.uint32)
    return numbers[labels]
