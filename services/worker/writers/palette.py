"""Colours of the classes, the same in mask and overlay: well apart, also for colour-blind eyes.

After Okabe and Ito (2008); the first is brighter than theirs, for it must show on brown, pink, white and black alike.
"""

import numpy as np

from shared.imaging.tiling import Pixels

_COLOURS = [
    (0, 0, 0),
    (0, 220, 60),
    (240, 228, 66),
    (86, 180, 233),
    (213, 94, 0),
    (204, 121, 167),
    (230, 159, 0),
    (0, 114, 178),
]


def colour_table() -> Pixels:
    """(256, 3) uint8 RGB: class 0 is black, the others repeat seven colours."""
    index = np.arange(256)
    index[1:] = (index[1:] - 1) % (len(_COLOURS) - 1) + 1
    return np.asarray(_COLOURS, dtype=np.uint8)[index]
