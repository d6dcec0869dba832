"""Rings and run lengths of objects, and the masks that they stand for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SQUARE = [[2, 1], [8, 1], [8, 5], [2, 5], [2, 1]]  # x, y: columns 2 … 7, rows 1 … 4
HOLE = [[4, 2], [6, 2], [6, 4], [4, 4], [4, 2]]


def marked(rows: slice, columns: slice, *, height: int = 8, width: int = 10) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    return mask


def runs_of(mask: NDArray[np.bool_]) -> list[int]:
    """How many pixels are off, on, off, …, column by column."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def compressed(runs: Sequence[int]) -> str:
    """Run lengths as COCO's tools write them."""
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            code, value = value & 31, value >> 5
            more = value != (-1 if code & 16 else 0)
            text += chr(48 + code + 32 * more)
            if not more:
                break
    return text
