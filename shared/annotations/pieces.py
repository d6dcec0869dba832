"""Connected pixels of one value."""

import numpy as np
from scipy import ndimage

from shared.annotations.values import Labels, Values

LARGEST = 2048  # px; of larger masks the middle is looked at where the whole is not needed
_AROUND = np.ones((3, 3), bool)


def find_pieces(values: Values) -> tuple[Labels, int]:
    """Number the pieces of a mask (H, W): pixels of one value above 0 that are joined by their sides; 0 elsewhere.

    Between every two pixels a place is laid that is set if both have one value: what is joined through such places is
    one piece, however many values there are.
    """
    height, width = values.shape
    above = values > np.zeros((), values.dtype)
    joints = np.zeros((2 * height - 1, 2 * width - 1), bool)
    joints[::2, ::2] = above
    joints[::2, 1::2] = (values[:, 1:] == values[:, :-1]) & above[:, 1:]
    joints[1::2, ::2] = (values[1:] == values[:-1]) & above[1:]
    numbered, count = ndimage.label(joints, output=np.int32)
    return numbered[::2, ::2], int(count)


def count_blobs(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> int:
    """Pieces of a yes-or-no mask (H, W), where corners join, too."""
    return int(ndimage.label(mask, _AROUND)[1])


def middle(values: Values) -> Values:
    """The mask (H, W) itself, or the middle of one that is larger than `LARGEST`²."""
    top, left = ((size - min(size, LARGEST)) // 2 for size in values.shape)
    return values[top : top + LARGEST, left : left + LARGEST]
