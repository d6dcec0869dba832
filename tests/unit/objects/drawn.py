"""Objects to try things on: any shape that is connected by edges, with holes, corners that touch, and neighbours."""

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[np.uint32]


def label_connected(kinds: NDArray[np.uint8]) -> Labels:
    """Labels 1 … n of the 4-connected areas of equal kinds (h, w) but 0, in reading order of their first pixels."""
    labels = np.zeros(kinds.shape, dtype=np.uint32)
    for kind in np.unique(kinds[kinds > 0]):
        found, _ = ndimage.label(kinds == kind)
        labels = np.where(found > 0, found + labels.max(), labels).astype(np.uint32)
    return renumber(labels)


def renumber(labels: Labels) -> Labels:
    """The same objects, numbered 1 … n by their first pixels in reading order."""
    found, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    numbers = np.zeros(found.size, dtype=np.uint32)
    objects = np.flatnonzero(found > 0)
    numbers[objects[np.argsort(first[objects])]] = np.arange(1, objects.size + 1)
    return numbers[inverse].reshape(labels.shape)


@st.composite
def label_arrays(draw: st.DrawFn, *, side: int = 9) -> Labels:
    """A few objects, or none, on at most `side × side` px."""
    shape = draw(st.tuples(st.integers(1, side), st.integers(1, side)))
    kinds = draw(arrays(np.uint8, shape, elements=st.integers(0, 2), fill=st.nothing()))
    return label_connected(kinds)


@st.composite
def cuts(draw: st.DrawFn, size: int) -> list[slice]:
    """`size` rows or columns, cut into pieces at any places."""
    places = draw(st.sets(st.integers(1, size - 1), max_size=4)) if size > 1 else set()
    borders = [0, *sorted(places), size]
    return [slice(start, stop) for start, stop in pairwise(borders)]


def cut(labels: Labels, rows: list[slice], columns: list[slice]) -> list[tuple[slice, slice, Labels, NDArray[np.intp]]]:
    """Row range, column range, labels 1 … n of the pieces inside, and to which object, from 0, each piece belongs.

    A piece is what of an object is connected within the block, so that an object may have several in one.
    """
    parts = []
    for across in rows:
        for down in columns:
            whole = labels[across, down]
            pieces = np.zeros_like(whole)
            for label in np.unique(whole[whole > 0]):
                found, _ = ndimage.label(whole == label)
                pieces = np.where(found > 0, found + pieces.max(), pieces).astype(np.uint32)
            first = np.unique(pieces[pieces > 0], return_index=True)[1]
            parts.append((across, down, pieces, whole[pieces > 0][first].astype(np.intp) - 1))
    return parts
