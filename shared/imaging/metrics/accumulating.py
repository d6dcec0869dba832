"""The scores of an image that is looked at block by block: sums over blocks, so that images of any size have them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from shared.imaging.masks import LEVELS
from shared.imaging.metrics.calibration import calibrate
from shared.imaging.metrics.contingency import Contingency
from shared.imaging.metrics.evaluation import score_overlaps
from shared.imaging.metrics.instances import Overlaps, Places
from shared.imaging.metrics.pixels import Confusion, Counts, Labels, Mask, class_ious, count_classes, count_levels
from shared.imaging.metrics.touching import count_in_clusters, count_merges, count_splits, restrict_to_clusters
from shared.imaging.tiling import Pixels


@dataclass(frozen=True, eq=False)
class TruthBlock:
    """What a mask says about a block: which object each pixel is of, or which class, or both."""

    labels: Labels | None = None  # (h, w), 0 = background; the same object has the same label in all blocks
    classes: Pixels | None = None  # (h, w), 0 = background

    @property
    def foreground(self) -> Mask:
        """(h, w): what is of an object, or of any class above 0 where objects are not told."""
        either = self.labels if self.labels is not None else self.classes
        if either is None:
            raise ValueError("a truth without labels or classes")
        mask: Mask = either != 0
        return mask


@dataclass(frozen=True, eq=False)
class AnswerBlock:
    """What was found in a block."""

    classes: Pixels  # (h, w), as in the mask that a user gets, 0 = background
    labels: Labels | None = None  # (h, w), the objects, 0 = background; None where the truth tells none either
    planes: Pixels | None = None  # (planes, h, w), probabilities p × 255; None of a method that gives none


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is kept of an image: its scores, and the counts that curves over all images are made of."""

    row: dict[str, float]  # as in a table of scores
    levels: Counts | None = None  # (2, 256), see `pixels.count_levels`
    # (classes, classes), see `pixels.count_classes`; a last row and column are of what has no number among them.
    matrix: Counts | None = None

    def as_json(self) -> dict[str, Any]:
        """As it goes into the database; NaN is null there."""
        return {
            "row": {name: None if np.isnan(value) else value for name, value in self.row.items()},
            "levels": None if self.levels is None else self.levels.tolist(),
            "matrix": None if self.matrix is None else self.matrix.tolist(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """What `as_json` wrote."""
        row = {name: np.nan if value is None else value for name, value in stored["row"].items()}
        levels, matrix = (
            None if stored[name] is None else np.array(stored[name], dtype=np.int64) for name in ("levels", "matrix")
        )
        return cls(row, levels, matrix)


@dataclass(eq=False)
class ImageScores:
    """Adds up blocks that cover an image, each pixel once, in any order.

    `classes`: numbered classes of the answer, with the background, if each is to be scored; 2 if only the foreground
    is. Classes of the truth beyond these are one, which is never found.
    """

    classes: int = 2
    _confusion: Confusion = field(default_factory=Confusion, init=False)
    _levels: Counts | None = field(default=None, init=False)
    _matrix: Counts | None = field(default=None, init=False)
    _objects: Contingency | None = field(default=None, init=False)

    def add(self, truth: TruthBlock, answer: AnswerBlock) -> None:
        """Count a block. Raises ValueError if its parts are not of one shape."""
        foreground = truth.foreground
        self._confusion += Confusion.of(foreground, answer.classes != 0)
        if answer.planes is not None:
            levels = count_levels(find_probability(answer.planes), foreground)
            self._levels = levels if self._levels is None else self._levels + levels
        if truth.classes is not None and self.classes > 2:
            known = np.minimum(truth.classes, self.classes)
            matrix = count_classes(known, answer.classes, classes=self.classes + 1)
            self._matrix = matrix if self._matrix is None else self._matrix + matrix
        if truth.labels is not None and answer.labels is not None:
            self._objects = self._objects or Contingency()
            self._objects.add(truth.labels, answer.labels)

    def finish(self, clusters: Places | None = None) -> Evidence:
        """The image's scores: those of `evaluation.score_image`, and what else the parts tell.

        Of objects: how many there are, how many were found, and the difference; of classes: the IoU of each, NaN of
        one that is neither true nor found; of probabilities: the calibration error and the Brier score. With the
        `clusters` that `touching.find_clusters` finds in the whole truth: the scores of objects that touch another,
        NaN where none does.
        """
        row = self._confusion.scores()
        if self._objects is not None:
            row |= _score_objects(self._objects.find_overlaps(), clusters)
        matrix = self._matrix
        if matrix is not None:
            ious = class_ious(matrix)[: self.classes]
            row |= {f"jaccard_class_{number}": float(iou) for number, iou in enumerate(ious) if number > 0}
            if not matrix[-1].any():
                matrix = matrix[:-1, :-1]
        if self._levels is not None:
            found = calibrate(self._levels)
            row |= {"calibration_error": found.error, "brier": found.brier}
        return Evidence(row, self._levels, matrix)


def _score_objects(overlaps: Overlaps, clusters: Places | None) -> dict[str, float]:
    row = score_overlaps(overlaps)
    row |= {"objects_true": overlaps.truth_areas.size, "objects_found": overlaps.found_areas.size}
    row |= {"count_error": overlaps.count_error(), "merges": count_merges(overlaps), "splits": count_splits(overlaps)}
    if clusters is None:
        return row
    if clusters.size != overlaps.truth_areas.size:
        raise ValueError(f"clusters of {clusters.size} objects, but {overlaps.truth_areas.size} were counted")
    counted, touching = count_in_clusters(overlaps, clusters), restrict_to_clusters(overlaps, clusters)
    return row | {
        "touching_objects": counted.objects,
        "touching_ap50": touching.average_precision(0.5) if counted.objects else np.nan,
        "touching_count_error": counted.per_object if counted.objects else np.nan,
    }


def find_probability(planes: Pixels) -> Pixels:
    """Of the foreground (h, w), p × 255, from a plane a class or the foreground's alone (planes, h, w)."""
    probability: Pixels = planes[-1] if planes.shape[0] <= 2 else LEVELS - planes[0]
    return probability
