"""Scores that look at objects: which were found, how well, and how many were not."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from shared.imaging.metrics.pixels import Labels, Mask, check_shapes

Counts = NDArray[np.int64]
Places = NDArray[np.intp]

IOU_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))


@dataclass(frozen=True)
class PanopticQuality:
    """Kirillov et al. 2019, eq. 1: `pq` = `dq` × `sq`, all 0 … 1."""

    pq: float
    dq: float  # detection (there: recognition): F1 of objects, matched with an IoU above 0.5
    sq: float  # segmentation: mean IoU of the matched, 0 if there are none


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Areas of true and found objects, px, and of all their overlaps; objects are counted from 0, by their labels."""

    truth_areas: Counts  # (true objects,)
    found_areas: Counts  # (found objects,)
    true: Places  # (pairs,) the true object of each pair that overlaps, ascending
    found: Places  # (pairs,) the found one
    intersections: Counts  # (pairs,)

    @property
    def ious(self) -> NDArray[np.float64]:
        """Intersection by union of each overlapping pair, (pairs,), in (0, 1]."""
        return self.intersections / (self.truth_areas[self.true] + self.found_areas[self.found] - self.intersections)

    @property
    def objects(self) -> int:
        """True and found together; 0 of two empty images, whose scores are all 1."""
        return self.truth_areas.size + self.found_areas.size

    def count_matches(self, threshold: float) -> int:
        """Pairs with an IoU above `threshold`, 0.5 … 1. Above one half no object can be in two.

        Raises:
            ValueError: the threshold is below 0.5, where a match would be a choice.
        """
        if threshold < 0.5:
            raise ValueError(f"objects match by an IoU of 0.5 or more, not {threshold}")
        return int(np.count_nonzero(self.ious > threshold))

    def average_precision(self, threshold: float) -> float:
        """TP / (TP + FP + FN) of objects, 0 … 1, as in the Data Science Bowl 2018 (Caicedo et al. 2019).

        A hit has an IoU above `threshold`. Both empty: 1; one empty: 0.
        """
        matches = self.count_matches(threshold)
        return matches / (self.objects - matches) if self.objects else 1.0

    def mean_average_precision(self) -> float:
        """The mean of `average_precision` at the ten thresholds 0.5, 0.55 … 0.95 (Caicedo et al. 2019)."""
        return float(np.mean([self.average_precision(threshold) for threshold in IOU_THRESHOLDS]))

    def panoptic_quality(self) -> PanopticQuality:
        """Sum of the matched IoUs by TP + FP / 2 + FN / 2 (Kirillov et al. 2019). Both empty: 1; one empty: 0."""
        if not self.objects:
            return PanopticQuality(1.0, 1.0, 1.0)
        matched = self.ious[self.ious > 0.5]
        detection = 2 * matched.size / self.objects
        segmentation = float(matched.mean()) if matched.size else 0.0
        return PanopticQuality(detection * segmentation, detection, segmentation)

    def aggregated_jaccard(self) -> float:
        """AJI, 0 … 1 (Kumar et al. 2017, algorithm 1): intersections by unions, each summed over true objects.

        Every true object is paired with the found one of the highest IoU (of equals the one with the lowest label),
        which may serve several, as in the paper; a true object without any overlap adds its area to the unions, and so
        does a found object that no true one chose. Both empty: 1; one empty: 0.
        """
        if not self.objects:
            return 1.0
        order = np.lexsort((self.found, -self.ious, self.true))
        owners = self.true[order]
        chosen = order[np.flatnonzero(np.diff(owners, prepend=-1))]  # the first pair of each true object
        shared = int(self.intersections[chosen].sum())
        served = np.zeros(self.found_areas.size, dtype=bool)
        served[self.found[chosen]] = True
        unions = self.truth_areas.sum() + self.found_areas[self.found[chosen]].sum() - shared
        return shared / int(unions + self.found_areas[~served].sum())

    def count_error(self) -> int:
        """Found objects minus true ones: above 0 where too many were found."""
        return int(self.found_areas.size) - int(self.truth_areas.size)


def find_overlaps(truth: Labels | Mask, found: Labels | Mask) -> Overlaps:
    """Compare two label images (H, W), 0 = background; other labels are any integers, in any order, with any gaps.

    A mask is one object.

    Raises:
        ValueError: the shapes differ.
    """
    check_shapes(truth, found)
    true_labels, true_numbers = renumber(truth)
    found_labels, found_numbers = renumber(found)
    truth_areas = np.bincount(true_numbers.ravel(), minlength=true_labels.size + 1)[1:]
    found_areas = np.bincount(found_numbers.ravel(), minlength=found_labels.size + 1)[1:]
    both = (true_numbers > 0) & (found_numbers > 0)
    width = max(found_areas.size, 1)
    pairs, intersections = np.unique((true_numbers[both] - 1) * width + found_numbers[both] - 1, return_counts=True)
    return Overlaps(truth_areas, found_areas, pairs // width, pairs % width, intersections)


def label_components(mask: Mask) -> Labels:
    """Foreground (H, W) → its 4-connected components, labelled 1, 2 … in reading order."""
    labels: Labels = ndimage.label(mask)[0]
    return labels


def renumber(labels: Labels | Mask) -> tuple[Labels, Places]:
    """The labels but 0 that occur, ascending, and the image with each as its place among them, from 1; 0 stays 0."""
    foreground = labels != 0
    found, places = np.unique(labels[foreground], return_inverse=True)
    numbers = np.zeros(labels.shape, dtype=np.intp)
    numbers[foreground] = places + 1
    return found, numbers
