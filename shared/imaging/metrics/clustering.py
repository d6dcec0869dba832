"""Segmentations as clusterings of pixels: splits and mergers counted by the pixels they concern.

The scores of the ISBI 2012 challenge (Arganda-Carreras et al. 2015): restricted to the true foreground, after the
borders of the prediction were thinned, so that how thick somebody draws a membrane does not matter.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from shared.imaging.metrics.instances import Overlaps, find_overlaps, label_components, renumber
from shared.imaging.metrics.pixels import Labels, Mask, check_masks

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class SplitMerge:
    """A score of 0 … 1 in two parts. `split` falls with true segments cut apart, `merge` with segments run together."""

    split: float
    merge: float
    score: float  # F-score of both, α = 0.5


PERFECT, NOTHING = SplitMerge(1.0, 1.0, 1.0), SplitMerge(0.0, 0.0, 0.0)


def pixel_error(truth: Mask, found: Mask) -> float:
    """Share of pixels, 0 … 1, on which two masks differ (Jain et al. 2010); 0 of no pixels.

    Raises:
        ValueError: the shapes differ, or one is no mask.
    """
    check_masks(truth, found)
    return float(np.count_nonzero(truth != found)) / max(truth.size, 1)


def rand_score(truth: Labels, found: Labels) -> SplitMerge:
    """V^Rand (Arganda-Carreras et al. 2015), foreground-restricted.

    With p the joint share of pixels by found and true segment: split = Σ p² / Σ t², the chance that two pixels of one
    true segment were found in one; merge = Σ p² / Σ s², the chance that two pixels found in one segment are truly in
    one; the score their harmonic mean. Pixels that are background in the truth are left out; pixels that are border in
    the prediction only are segments of one pixel each. Both without segments: 1; one without: 0.

    Args:
        truth: True segments (H, W), 0 = border.
        found: Found segments (H, W), 0 = border; thin the borders first.

    Raises:
        ValueError: the shapes differ.
    """
    overlaps = find_overlaps(truth, found)
    if (known := _judge_empty(overlaps)) is not None:
        return known
    joint, true, predicted = (float(counts @ counts) for counts in _tabulate(overlaps))
    return SplitMerge(joint / true, joint / predicted, 2 * joint / (true + predicted))


def information_score(truth: Labels, found: Labels) -> SplitMerge:
    """V^Info (Arganda-Carreras et al. 2015), foreground-restricted as in `rand_score`.

    With S the found and T the true segment of a pixel: split = I(S; T) / H(S), merge = I(S; T) / H(T), the score their
    harmonic mean, 2 I / (H(S) + H(T)). A part whose entropy is 0 is 1: one segment cannot be cut apart by itself.

    Raises:
        ValueError: the shapes differ.
    """
    overlaps = find_overlaps(truth, found)
    if (known := _judge_empty(overlaps)) is not None:
        return known
    joint, true, predicted = (_entropy(counts) for counts in _tabulate(overlaps))
    information = min(max(true + predicted - joint, 0.0), true, predicted)
    return SplitMerge(
        split=information / predicted if predicted else 1.0,
        merge=information / true if true else 1.0,
        score=2 * information / (true + predicted) if true + predicted else 1.0,
    )


def thin_borders(segments: Labels) -> Labels:
    """Segments (H, W), 0 = border, grown until the borders between them are lines of one pixel, 4-connected segments.

    All segments grow at one speed (watershed of the distance to the nearest, Beucher and Meyer 1993) and keep their
    labels. In the end no pixel of a border could be given to a segment without making it touch another; segments that
    touch already stay so. Without a segment nothing changes.
    """
    from skimage.segmentation import watershed  # the worker, which has no such image to score, is without it

    labels, numbers = renumber(segments)
    if not labels.size:
        return segments
    distance = distance_transform_edt(numbers == 0)
    # Numbered, since markers are 32 bits wide and labels may be wider.
    grown = watershed(distance, markers=numbers, connectivity=1, watershed_line=True)  # type: ignore[no-untyped-call]
    thinned: Labels = np.concatenate([np.zeros(1, dtype=labels.dtype), labels])[_fill_spurs(grown)]
    return thinned


def _fill_spurs(numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    """The watershed leaves dead ends of border, about one pixel in a thousand: they go to the segment around them."""
    squares = np.indices(numbers.shape).sum(axis=0) % 2  # pixels of one colour are never neighbours: no race
    filled, changes = numbers.copy(), True
    while changes:
        changes = False
        for colour in (0, 1):
            smallest, largest = _range_around(filled)
            lone = (filled == 0) & (squares == colour) & (smallest == largest)
            filled[lone] = largest[lone]
            changes |= bool(lone.any())
    return filled


def _range_around(numbers: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The smallest and largest number but 0 among the four neighbours, (H, W) each; they differ if there is none."""
    none = np.iinfo(np.int32).max
    framed = np.pad(numbers, 1)
    around = np.stack([framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]])
    return np.where(around == 0, none, around).min(axis=0), around.max(axis=0)


def score_thinned(truth: Mask, found: Mask) -> tuple[SplitMerge, SplitMerge]:
    """V^Rand and V^Info of two masks of cells' insides (H, W), as ISBI 2012 ranked them.

    Segments are 4-connected components; the borders of the prediction are thinned, those of the truth stay as drawn.

    Raises:
        ValueError: the shapes differ, or one is no mask.
    """
    check_masks(truth, found)
    true, segments = label_components(truth), thin_borders(label_components(found))
    return rand_score(true, segments), information_score(true, segments)


def _judge_empty(overlaps: Overlaps) -> SplitMerge | None:
    """The score where a side has no segments, None where both have some."""
    if not overlaps.objects:
        return PERFECT
    return None if overlaps.truth_areas.size and overlaps.found_areas.size else NOTHING


def _tabulate(overlaps: Overlaps) -> tuple[Counts, Counts, Counts]:
    """Pixels by pair of segments, by true and by found segment, each pixel of a found border alone."""
    true = overlaps.truth_areas.astype(np.float64)
    joint = overlaps.intersections.astype(np.float64)
    predicted = np.bincount(overlaps.found, weights=joint)
    alone = np.ones(int(true.sum() - joint.sum()))
    return np.concatenate([joint, alone]), true, np.concatenate([predicted[predicted > 0], alone])


def _entropy(counts: Counts) -> float:
    """In nats, of the shares of these counts, all above 0."""
    shares = counts / counts.sum()
    return float(-(shares @ np.log(shares))) + 0.0  # no minus zero
