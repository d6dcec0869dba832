"""The objects of one block of an image, and the pieces of those that go on beyond it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.imaging.objects.basins import Basins, find_basins
from shared.imaging.objects.foreground import Mask, Region, find_region, foreground_reach
from shared.imaging.objects.heights import Heights, find_depth, find_heights, heights_reach
from shared.imaging.objects.merging import Ints, Merged, merge
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.objects.seams import Border, Seams
from shared.imaging.tiling import Box, Pixels


@dataclass(frozen=True, eq=False)
class BlockLabels:
    """A block cut into pieces: whole objects, and what of others lies in it."""

    labels: NDArray[np.uint32]  # (h, w): 1 … in the order of their first pixels, 0 = background
    classes: Pixels  # (h, w), 0 = background; where there is a label there is a class
    planes: Pixels  # (C, h, w): the probabilities of the block itself
    seams: Seams


def reach(rules: ObjectRules) -> int:
    """How far around a block `label_block` looks, px."""
    heights = heights_reach(rules) if rules.method == "watershed" else 0
    return foreground_reach(rules) + heights + 1  # 1: the neighbours of the block's pixels


def label_block(
    read: Callable[[Box], Pixels], block: Box, *, height: int, width: int, rules: ObjectRules
) -> BlockLabels:
    """The pieces of the objects of a `height × width` image that lie in `block`.

    Joined with those of all other blocks (`joining.join`), they are the objects that the whole image has as one block.
    No size is too small or too large here: only a joined object has its size.

    Args:
        read: gives the probabilities (C, h, w), uint8, of a box inside the image; it is asked once, for the block and
            what lies up to `reach` px around.
        block: inside the image.
        height: of the image, px.
        width: of the image, px.
        rules: how objects are told apart.
    """
    window = block.grow(reach(rules)).intersect(Box(0, 0, height, width))
    planes = read(window)
    region = find_region(planes, rules)
    inner = block.move(-window.top, -window.left)
    framed = _frame(_find_heights(region, rules), inner)
    basins = find_basins(framed, block, width, rules.method)
    merged = merge(basins.tops, basins.openings, basins.edges, depth=find_depth(rules))
    seeded = _find_seeded(basins, merged, region.inside[inner.slices()])
    pieces = _number_pieces(basins, merged, seeded | merged.open)
    labels = np.zeros(framed.shape, dtype=np.uint32)
    labels.ravel()[basins.places] = pieces[basins.basins]
    return BlockLabels(
        np.ascontiguousarray(labels[1:-1, 1:-1]),
        region.classes[inner.slices()],
        planes[:, inner.top : inner.bottom, inner.left : inner.right],
        _find_seams(basins, merged, seeded, pieces),
    )


def _frame(heights: Heights, inner: Box) -> Heights:
    """The heights (h + 2, w + 2) of a box and of one pixel around it, 0 beyond the window they are of."""
    framed = np.zeros((inner.height + 2, inner.width + 2), dtype=np.uint16)
    seen = inner.grow(1).intersect(Box(0, 0, *heights.shape))
    framed[seen.move(1 - inner.top, 1 - inner.left).slices()] = heights[seen.slices()]
    return framed


def _find_seeded(basins: Basins, merged: Merged, inside: Mask) -> NDArray[np.bool_]:
    """(k,) whether an object may begin in what a basin stands for; `inside` is (h, w)."""
    seeded = np.zeros(merged.parts.size, dtype=np.bool_)
    framed = np.pad(inside, 1)
    seeded[merged.parts[basins.basins[framed.ravel()[basins.places]]]] = True
    return seeded


def _number_pieces(basins: Basins, merged: Merged, kept: NDArray[np.bool_]) -> Ints:
    """(k,) the label of the piece that each basin is in, by the order of their first pixels; 0 if it is not kept."""
    begins = np.flatnonzero(np.diff(basins.basins, prepend=-1))  # few, beside all pixels
    first = np.full(merged.parts.size, basins.places.size, dtype=np.int64)
    np.minimum.at(first, merged.parts[basins.basins[begins]], begins)
    first[~kept] = basins.places.size
    found = np.argsort(first, kind="stable")[: np.count_nonzero(first < basins.places.size)]
    labels = np.zeros(merged.parts.size, dtype=np.int64)
    labels[found] = np.arange(1, found.size + 1)
    return labels[merged.parts]


def _find_seams(basins: Basins, merged: Merged, seeded: NDArray[np.bool_], pieces: Ints) -> Seams:
    """What may go on beyond the block; `seeded` and `pieces` (labels) are those of the basins, (k,)."""
    stand_for_others = merged.parts == np.arange(merged.parts.size)
    opened = np.flatnonzero(merged.open & stand_for_others)
    opened = opened[np.argsort(pieces[opened])]
    borders = {
        side: Border(contacts.positions, pieces[contacts.basins], contacts.heights, contacts.across)
        for side, contacts in basins.contacts.items()
    }
    return Seams(
        int(pieces.max(initial=0)),
        pieces[opened],
        merged.tops[opened],
        seeded[opened],
        merged.edges.between(pieces),
        borders,
    )


def _find_heights(region: Region, rules: ObjectRules) -> Heights:
    """Heights for the method: of components only what is foreground counts."""
    if rules.method == "components":
        return (region.classes > 0).astype(np.uint16)
    return find_heights(region, rules)
