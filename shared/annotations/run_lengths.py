"""COCO's masks by run lengths: how many pixels are off, on, off, … column by column."""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
_FIRST, _BITS, _MORE, _SIGN = 48, 5, 0x20, 0x10  # of a character: the lowest code, bits of a number, flags


def uncompress_runs(text: str) -> list[int]:
    """Run lengths from COCO's string of them: five bits a character, least first; from the third run on differences.

    (cocodataset/cocoapi, maskApi.) A difference is to the run before the last.

    Raises:
        ValueError: the string is none.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - _FIRST
        if not 0 <= code < 2 * _MORE or shift > 60:
            raise ValueError(f"{letter!r} is no part of run lengths")
        value |= (code & (_MORE - 1)) << shift
        shift += _BITS
        if code & _MORE:
            continue
        if code & _SIGN:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("run lengths are cut off")
    return counts
