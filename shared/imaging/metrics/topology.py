"""Errors that change what is connected with what, however few pixels they take."""

from collections import deque
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from shared.imaging.metrics.pixels import Mask, check_masks

Connectivity = Literal[4, 8]

_STRUCTURES = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}
# The eight neighbours in reading order: bit k of a neighbourhood's code is neighbour k, and 7 − k lies opposite.
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def warping_error(truth: Mask, found: Mask, *, mask: Mask | None = None, connectivity: Connectivity = 4) -> float:
    """Share of pixels, 0 … 1, that still differ after the truth was warped onto the prediction.

    The warping error of Jain et al. 2010: the least distance between the prediction and any image that has the truth's
    topology and comes from it by flips of simple points. What remains are splits, mergers, lost or invented objects and
    holes; borders that are merely shifted cost nothing. Both empty: 0, as for all that agree. One empty: everything but
    one pixel of each object can shrink away, or nothing can grow.

    Args:
        truth: Foreground (H, W); in electron microscopy the cells' insides.
        found: Predicted foreground (H, W).
        mask: Where the truth may be warped; None is everywhere. Remaining differences count everywhere.
        connectivity: Of the foreground; the background has the other one.

    Raises:
        ValueError: the shapes differ, or one is no mask.
    """
    warped = warp(truth, found, mask=mask, connectivity=connectivity)
    return float(np.count_nonzero(warped != found)) / max(truth.size, 1)


def warp(truth: Mask, found: Mask, *, mask: Mask | None = None, connectivity: Connectivity = 4) -> Mask:
    """The truth (H, W) made as like the prediction as flips of simple points can, so that its topology stays.

    Greedy, as the algorithm of Jain et al. 2010, so not always the very nearest; but in a fixed order, from the
    outlines on, where theirs is random: the same pair always gives the same answer. Only pixels that differ are
    flipped, each once, so the time is linear in their number. Outside the image is background.

    Raises:
        ValueError: the shapes differ, or one is no mask.
    """
    check_masks(truth, found)
    differs = truth != found
    if mask is not None:
        check_masks(truth, mask)
        differs &= mask
    simple = find_simple(connectivity)
    codes = _encode(truth)
    open_ = np.pad(differs, 1)
    worklist = deque(np.flatnonzero(open_ & (simple[codes] != 0)).tolist())
    flipped = _flip(worklist, open_, codes, simple)
    return truth ^ flipped[1:-1, 1:-1]


def _flip(worklist: deque[int], open_: Mask, codes: NDArray[np.uint8], simple: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of the open pixels (H + 2, W + 2) were flipped. A flip may make neighbours simple: they queue up behind."""
    width = open_.shape[1]
    # Seen from a neighbour, the flipped pixel is the opposite one.
    around = [(row * width + column, 1 << (7 - k)) for k, (row, column) in enumerate(_NEIGHBOURS)]
    # Single bytes are read and written by the million: bytearrays are ten times as fast as arrays at that.
    waiting, code, table = bytearray(open_.tobytes()), bytearray(codes.tobytes()), bytes(simple)
    while worklist:
        pixel = worklist.popleft()
        if not (waiting[pixel] and table[code[pixel]]):  # a neighbour's flip came first
            continue
        waiting[pixel] = 0
        for offset, bit in around:
            neighbour = pixel + offset
            if waiting[neighbour]:
                code[neighbour] ^= bit
                if table[code[neighbour]]:
                    worklist.append(neighbour)
    left = np.frombuffer(waiting, dtype=np.bool_).reshape(open_.shape)
    return open_ & ~left


def _encode(mask: Mask) -> NDArray[np.uint8]:
    """The neighbourhood of each pixel as a byte, (H + 2, W + 2) with a frame of zeros; outside is background."""
    height, width = mask.shape
    padded = np.pad(mask, 1).astype(np.uint8)
    codes = np.zeros(padded.shape, dtype=np.uint8)
    for k, (row, column) in enumerate(_NEIGHBOURS):
        codes[1:-1, 1:-1] |= padded[1 + row : 1 + row + height, 1 + column : 1 + column + width] << k
    return codes


@cache
def find_simple(connectivity: Connectivity) -> NDArray[np.uint8]:
    """Which of the 256 neighbourhoods make their centre simple, 0 or 1: flipping it then changes no topology.

    So it is if, among the eight neighbours, exactly one component of the foreground and exactly one of the background
    touch the centre, each by its own connectivity (Kong and Rosenfeld 1989). The centre's own value plays no part.
    """
    dual: Connectivity = 8 if connectivity == 4 else 4
    table = np.zeros(256, dtype=np.uint8)
    for code in range(256):
        around = np.zeros((3, 3), dtype=bool)
        for k, (row, column) in enumerate(_NEIGHBOURS):
            around[1 + row, 1 + column] = code >> k & 1
        others = ~around
        others[1, 1] = False
        table[code] = _count_touching(around, connectivity) == 1 and _count_touching(others, dual) == 1
    table.flags.writeable = False  # cached: shared by all callers
    return table


def _count_touching(ring: Mask, connectivity: Connectivity) -> int:
    """Components of the neighbours (3, 3), centre unset, that touch the centre."""
    components, _ = ndimage.label(ring, structure=_STRUCTURES[connectivity])
    return len(set(components[_STRUCTURES[connectivity] & ring].tolist()))
