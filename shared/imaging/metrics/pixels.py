"""Scores that look at each pixel by itself: how often prediction and truth agree, and over what.

Every score is a function of counts, and counts add up: the score of a sum is the score pooled over all pixels, the mean
of scores is the mean over images. Large images weigh more in the first, and both are usual, so say which one it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.imaging.masks import LEVELS
from shared.imaging.tiling import Pixels

Mask = NDArray[np.bool_]
Labels = NDArray[np.integer[Any]]
Counts = NDArray[np.int64]
Shares = NDArray[np.float64]


@dataclass(frozen=True)
class Confusion:
    """Pixels of foreground and background by truth and prediction. `a + b` pools two images; the default is none.

    Precision and recall are van Rijsbergen's (1979), f1 is Dice's coefficient (1945), jaccard Jaccard's (1912).
    """

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    true_negatives: int = 0

    @classmethod
    def of(cls, truth: Mask, found: Mask) -> "Confusion":
        """Count two masks of one shape, True = foreground.

        Raises:
            ValueError: the shapes differ, or one is no mask.
        """
        check_masks(truth, found)
        both = int(np.count_nonzero(truth & found))
        true, positive = int(np.count_nonzero(truth)), int(np.count_nonzero(found))
        return cls(both, positive - both, true - both, truth.size - true - positive + both)

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.true_negatives + other.true_negatives,
        )

    @property
    def pixels(self) -> int:
        """How many were counted."""
        return self._union + self.true_negatives

    @property
    def accuracy(self) -> float:
        """Share of pixels on which both agree, 0 … 1; 1 of no pixels."""
        return _share(self.true_positives + self.true_negatives, self.pixels, otherwise=1.0)

    @property
    def precision(self) -> float:
        """Share of the found foreground that is true, 0 … 1. Nothing found: 0, or 1 if nothing is true."""
        return _share(self.true_positives, self.true_positives + self.false_positives, otherwise=self._agrees)

    @property
    def recall(self) -> float:
        """Share of the true foreground that is found, 0 … 1. Nothing true: 0, or 1 if nothing was found."""
        return _share(self.true_positives, self.true_positives + self.false_negatives, otherwise=self._agrees)

    @property
    def f1(self) -> float:
        """Twice the intersection by the sum of both areas, 0 … 1 (Dice 1945); both empty: 1.

        Also the harmonic mean of precision and recall.
        """
        return _share(2 * self.true_positives, self.true_positives + self._union, otherwise=1.0)

    @property
    def jaccard(self) -> float:
        """Intersection by union of the foreground, IoU, 0 … 1 (Jaccard 1912); both empty: 1."""
        return _share(self.true_positives, self._union, otherwise=1.0)

    @property
    def weighted_iou(self) -> float:
        """IoU of foreground and of background, weighted by their true areas, 0 … 1 (Long et al. 2015, section 5)."""
        truth = self.true_positives + self.false_negatives
        background = self.true_negatives / (self.pixels - self.true_positives) if self.true_negatives else 0.0
        weighted = truth * self.jaccard + (self.pixels - truth) * background
        return _share(weighted, self.pixels, otherwise=1.0)

    def scores(self) -> dict[str, float]:
        """The six scores by their names in tables."""
        return {
            "accuracy": self.accuracy,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "jaccard": self.jaccard,
            "weighted_iou": self.weighted_iou,
        }

    @property
    def _union(self) -> int:
        return self.true_positives + self.false_positives + self.false_negatives

    @property
    def _agrees(self) -> float:
        return float(self._union == 0)


def count_classes(truth: Labels, found: Labels, *, classes: int) -> Counts:
    """Pixels by true class (rows) and found class (columns), (classes, classes). Matrices of images add up.

    Raises:
        ValueError: the shapes differ, or a class is not among 0 … classes − 1.
    """
    check_shapes(truth, found)
    for pixels in (truth, found):
        if pixels.size and not 0 <= int(pixels.min()) <= int(pixels.max()) < classes:
            raise ValueError(f"classes {pixels.min()} … {pixels.max()} are not among 0 … {classes - 1}")
    cells = truth.ravel().astype(np.int64) * classes + found.ravel().astype(np.int64)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def class_ious(matrix: Counts) -> Shares:
    """IoU of each class, (classes,), from a matrix of `count_classes`; NaN for one that is neither true nor found."""
    intersection = np.diagonal(matrix).astype(np.float64)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - intersection
    ious: Shares = np.divide(intersection, union, out=np.full(union.shape, np.nan), where=union > 0)
    return ious


def weighted_iou(matrix: Counts) -> float:
    """Sum over classes of true share × IoU, 0 … 1 ("frequency weighted IU", Long et al. 2015, section 5).

    Classes without a true pixel have no weight; a matrix without pixels is 1.
    """
    areas = matrix.sum(axis=1)
    present = areas > 0
    return _share(float(areas[present] @ class_ious(matrix)[present]), int(areas.sum()), otherwise=1.0)


@dataclass(frozen=True, eq=False)
class Sweep:
    """The IoU of the foreground at each of the 256 thresholds that uint8 probabilities can tell apart.

    Entry `level` is for "foreground from `level` / 255 on", the rule of `masks.find_classes`.
    """

    pooled_ious: Shares  # (256,), counts added over the images
    mean_ious: Shares  # (256,), mean over the images; one without foreground in truth and prediction counts as 1
    mean_f1s: Shares  # (256,), the same of F1
    images: int

    @property
    def best_pooled(self) -> float:
        """The threshold, 0 … 1, with the highest IoU over all pixels; of equals the one nearest to 0.5."""
        return _best(self.pooled_ious)

    @property
    def best_mean(self) -> float:
        """The threshold, 0 … 1, with the highest mean IoU over images; of equals the one nearest to 0.5."""
        return _best(self.mean_ious)


def sweep_thresholds(images: Iterable[tuple[Pixels, Mask]]) -> Sweep:
    """Every threshold at once, exactly, from pairs of probabilities (H, W), p × 255 as uint8, and true foreground.

    One pass that keeps two histograms and no image: how many pixels of foreground and of background have each level.

    Raises:
        ValueError: there is no image, the shapes of a pair differ, or one is not of its type.
    """
    return sweep_levels(count_levels(probabilities, truth) for probabilities, truth in images)


def sweep_levels(images: Iterable[Counts]) -> Sweep:
    """The same from histograms (2, 256) of `count_levels`, one an image: those of an image's blocks add up.

    Raises:
        ValueError: there is no image.
    """
    pooled = np.zeros((2, LEVELS + 1), dtype=np.int64)
    total, total_f1, count = np.zeros(LEVELS + 1), np.zeros(LEVELS + 1), 0
    for levels in images:
        ious = _ious(levels)
        pooled += levels
        total += ious
        total_f1 += 2 * ious / (1 + ious)
        count += 1
    if not count:
        raise ValueError("no image to find a threshold for: give at least one")
    return Sweep(_ious(pooled), total / count, total_f1 / count, count)


def count_levels(probabilities: Pixels, truth: Mask) -> Counts:
    """Histograms of the background's and the foreground's probabilities, p × 255 as uint8, (2, 256).

    Raises:
        ValueError: the shapes differ, or one is not of its type.
    """
    check_shapes(truth, probabilities)
    if truth.dtype != np.bool_ or probabilities.dtype != np.uint8:
        raise ValueError(f"truth is bool and probabilities uint8, not {truth.dtype} and {probabilities.dtype}")
    cells = probabilities.ravel() + np.uint16(LEVELS + 1) * truth.ravel()
    return np.bincount(cells, minlength=2 * (LEVELS + 1)).reshape(2, LEVELS + 1)


def _ious(levels: Counts) -> Shares:
    """Histograms of background and foreground (2, 256) → the IoU of "found from this level on", (256,)."""
    false_positives, true_positives = levels[:, ::-1].cumsum(axis=1)[:, ::-1]
    union = false_positives + levels[1].sum()
    ious: Shares = np.divide(true_positives, union, out=np.ones(union.shape), where=union > 0)
    return ious


def _best(ious: Shares) -> float:
    candidates = np.flatnonzero(ious == ious.max())
    nearest = candidates[np.argmin(np.abs(candidates - LEVELS / 2))]
    return float(nearest) / LEVELS


def check_shapes(truth: NDArray[Any], found: NDArray[Any]) -> None:
    """Truth and prediction must be of one image.

    Raises:
        ValueError: they are not, by their shapes.
    """
    if truth.shape != found.shape:
        raise ValueError(f"truth {truth.shape} and prediction {found.shape} are not of one shape")


def check_masks(truth: Mask, found: Mask) -> None:
    """Truth and prediction must be masks of one image: `&` of labels would count something else.

    Raises:
        ValueError: they are not, by their shapes or types.
    """
    check_shapes(truth, found)
    if truth.dtype != np.bool_ or found.dtype != np.bool_:
        raise ValueError(f"masks are bool, not {truth.dtype} and {found.dtype}: compare labels with 0 first")


def _share(part: float, whole: int, *, otherwise: float) -> float:
    return part / whole if whole else otherwise
