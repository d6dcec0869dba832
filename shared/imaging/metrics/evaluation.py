"""One image, all its scores: a row of a benchmark's table."""

import numpy as np

from shared.imaging.masks import find_classes
from shared.imaging.metrics.clustering import pixel_error, score_thinned
from shared.imaging.metrics.instances import Overlaps, find_overlaps, label_components
from shared.imaging.metrics.pixels import Confusion, Labels, Mask
from shared.imaging.metrics.topology import warping_error
from shared.imaging.tiling import Pixels


def score_image(
    truth: Labels | Mask,
    found: Pixels | Mask,
    *,
    threshold: float = 0.5,
    truth_is_instances: bool,
    found_instances: Labels | None = None,
) -> dict[str, float]:
    """The scores of one image, all 0 … 1: accuracy, precision, recall, f1, jaccard and weighted_iou of the foreground.

    If the truth tells objects apart also ap50, ap50_95, pq and aji of them.

    Args:
        truth: Labels of objects, classes or a mask (H, W); all but 0 is foreground.
        found: A mask (bool), or probabilities, p × 255 as uint8, (H, W).
        threshold: Foreground is from this probability on, 0 … 1; a mask needs none.
        truth_is_instances: Whether every label of the truth is one object.
        found_instances: The found objects (H, W), 0 = background; None takes the 4-connected components of `found`.

    Raises:
        ValueError: the shapes differ, or `found` is neither a mask nor uint8.
    """
    mask = find_foreground(found, threshold=threshold)
    scores = Confusion.of(truth != 0, mask).scores()
    if truth_is_instances:
        scores |= score_instances(truth, label_components(mask) if found_instances is None else found_instances)
    return scores


def score_instances(truth: Labels | Mask, found: Labels) -> dict[str, float]:
    """The scores of found objects against true ones (H, W), 0 = background: ap50, ap50_95, pq and aji, all 0 … 1.

    Raises:
        ValueError: the shapes differ.
    """
    return score_overlaps(find_overlaps(truth, found))


def score_overlaps(overlaps: Overlaps) -> dict[str, float]:
    """The same from the overlaps, however they were counted."""
    return {
        "ap50": overlaps.average_precision(0.5),
        "ap50_95": overlaps.mean_average_precision(),
        "pq": overlaps.panoptic_quality().pq,
        "aji": overlaps.aggregated_jaccard(),
    }


def score_borders(truth: Mask, found: Mask) -> dict[str, float]:
    """The scores of electron microscopy for two masks of cells' insides (H, W), all 0 … 1.

    pixel_error and warping_error are best at 0; vrand and vinfo, with their parts _split and _merge, are best at 1 and
    taken after thinning the prediction's borders.

    Raises:
        ValueError: the shapes differ, or one is no mask.
    """
    scores = {"pixel_error": pixel_error(truth, found), "warping_error": warping_error(truth, found)}
    for name, parts in zip(("vrand", "vinfo"), score_thinned(truth, found), strict=True):
        scores |= {name: parts.score, f"{name}_split": parts.split, f"{name}_merge": parts.merge}
    return scores


def find_foreground(found: Pixels | Mask, *, threshold: float) -> Mask:
    """Probabilities (H, W), p × 255 as uint8 → where they reach `threshold`, 0 … 1. A mask stays as it is.

    Raises:
        ValueError: `found` is of another type.
    """
    if found.dtype == np.bool_:
        return found.astype(np.bool_, copy=False)
    if found.dtype != np.uint8:
        raise ValueError(f"a mask is bool and probabilities are uint8, not {found.dtype}")
    mask: Mask = find_classes(found.astype(np.uint8, copy=False)[None], threshold=threshold) == 1
    return mask
