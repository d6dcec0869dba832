"""Some pixels of a large image that tell its colours: small patches at full resolution, spread evenly over it."""

from collections.abc import Callable

import numpy as np

from shared.imaging.tiling import Box, Pixels

SIDE = 1024  # px of a sample, at most; an image no larger is its own sample
PATCH = 32  # px; so small that a file tile holds one as a rule, so large that few file tiles are decoded for it

Stretch = tuple[int, int]  # half-open, px


def read_sample(
    read: Callable[[Box], Pixels], height: int, width: int, *, file_tile: tuple[int, int] = (1, 1)
) -> Pixels:
    """The sample (≤ 1024, ≤ 1024, C) of an image. Which pixels it holds depends on the image's size alone.

    Not an overview: a nucleus is paler in a mean with its surroundings, so that statistics of an overview change with
    the size of the image, and a crop's would not be its slide's.

    Args:
        read: gives the pixels (h, w, C) of a box inside the image.
        height: of the image, px.
        width: of the image, px.
        file_tile: (height, width) of what the file decodes at once, px: spares it decoding the same twice.
    """
    rows, columns = find_stretches(height), find_stretches(width)
    if file_tile[1] * len(columns) > width:  # several patches lie in one file tile
        across = np.concatenate([np.arange(*stretch) for stretch in columns])
        bands = [read(Box(top, 0, bottom, width))[:, across] for top, bottom in rows]
    else:
        bands = [
            np.concatenate([read(Box(top, left, bottom, right)) for left, right in columns], axis=1)
            for top, bottom in rows
        ]
    return np.concatenate(bands)


def find_stretches(length: int) -> list[Stretch]:
    """Which parts of an axis are looked at: all of a short one, 32 evenly spread stretches of 32 px of a long one."""
    if length <= SIDE:
        return [(0, length)]
    count = SIDE // PATCH
    firsts = [(2 * number + 1) * length // (2 * count) - PATCH // 2 for number in range(count)]
    return [(first, first + PATCH) for first in firsts]
