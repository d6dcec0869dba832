"""Ways of telling objects apart, and how well each does on a set of images: all objects, and those that touch."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from shared.imaging.masks import find_classes
from shared.imaging.metrics.instances import IOU_THRESHOLDS, Overlaps, find_overlaps
from shared.imaging.metrics.pixels import Labels
from shared.imaging.metrics.summary import summarise
from shared.imaging.metrics.touching import (
    CountError,
    count_in_clusters,
    count_merges,
    count_splits,
    find_clusters,
    restrict_to_clusters,
)
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.objects.whole import label_whole
from shared.imaging.tiling import Pixels

Image = tuple[Pixels, Labels]  # its probabilities (C, H, W), and its true objects (H, W)

NEAR = 2  # px of background between objects that nearly touch
SEEDS = 0.7  # probability of the seeds, where these are asked for


@dataclass(frozen=True)
class Way:
    """From probabilities to objects, by the platform's own code or by the peer's."""

    name: str
    rules: ObjectRules
    peer: bool = False

    def label(self, planes: Pixels) -> Labels:
        """Probabilities (C, H, W) → objects (H, W), 0 = background."""
        return label_by_peer(planes, self.rules) if self.peer else label_whole(planes, self.rules)


def list_ways(rules: ObjectRules) -> list[Way]:
    """What is compared, of one network: nothing parted, parted by the platform, from surer seeds, and by the peer."""
    return [
        Way("components", replace(rules, method="components")),
        Way("watershed", rules),
        Way("watershed_seeds", replace(rules, seed_threshold=SEEDS)),
        Way("watershed_skimage", rules, peer=True),
    ]


def label_by_peer(planes: Pixels, rules: ObjectRules) -> Labels:
    """scikit-image's watershed from the maxima of at least `rules.depth` of the smoothed distance; no holes filled."""
    foreground = find_classes(planes, threshold=rules.threshold) > 0
    heights = ndimage.gaussian_filter(ndimage.distance_transform_edt(foreground), rules.smoothing)
    tops = h_maxima(heights, rules.depth)  # type: ignore[no-untyped-call]
    seeds, _ = ndimage.label((tops > 0) & foreground, np.ones((3, 3)))
    labels: Labels = watershed(-heights, seeds, mask=foreground)  # type: ignore[no-untyped-call]
    areas = np.bincount(labels.ravel())
    return np.where(areas[labels] >= rules.min_area, labels, 0)


class Tally:
    """The scores of one way of telling objects apart, image after image."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float | None]] = []  # of each image
        self._all, self._touching, self._near = _Pool(), _Pool(), _Pool()
        self._counts = CountError()
        self._merges = self._splits = 0

    def add(self, truth: Labels, found: Labels) -> None:
        """One image: its true and its found objects (H, W)."""
        overlaps, clusters = find_overlaps(truth, found), find_clusters(truth)
        touching = restrict_to_clusters(overlaps, clusters)
        self.rows.append(
            {
                "ap50": overlaps.average_precision(0.5),
                "ap50_95": overlaps.mean_average_precision(),
                "mean_ap50_touching": touching.average_precision(0.5) if touching.truth_areas.size else None,
                "mean_ap50_95_touching": touching.mean_average_precision() if touching.truth_areas.size else None,
            }
        )
        self._all.add(overlaps)
        self._touching.add(touching)
        self._near.add(restrict_to_clusters(overlaps, find_clusters(truth, gap=NEAR)))
        self._counts += count_in_clusters(overlaps, clusters)
        self._merges += count_merges(overlaps)
        self._splits += count_splits(overlaps)

    def describe(self) -> dict[str, float]:
        """`ap…`, `mean_…`: means over images; `pooled_…`, `…_touching`, `…_near`: of all such objects together."""
        means = {name: mean.mean for name, mean in summarise(self.rows).items()}
        pools = [("pooled_{}", self._all), ("{}_touching", self._touching), ("{}_near", self._near)]
        precisions = {name.format(ap): value for name, pool in pools for ap, value in pool.describe().items()}
        scores = means | precisions | {"count_error_touching": self._counts.per_object}
        return {name: round(value, 4) for name, value in scores.items()} | {
            "missing_touching": self._counts.missing,
            "surplus_touching": self._counts.surplus,
            "objects_touching": self._counts.objects,
            "merges": self._merges,
            "splits": self._splits,
        }

    def compare(self, other: "Tally") -> dict[str, list[float]]:
        """How much higher its means over images are than those of `other`, of the same images: mean, low, high."""
        pairs = [(mine, theirs) for mine, theirs in zip(self.rows, other.rows, strict=True)]
        means = summarise([{name: _subtract(mine[name], theirs[name]) for name in mine} for mine, theirs in pairs])
        return {name: [round(value, 4) for value in (mean.mean, mean.low, mean.high)] for name, mean in means.items()}


def tally(way: Way, images: Iterable[Image]) -> Tally:
    """Score a way on images."""
    scores = Tally()
    for planes, truth in images:
        scores.add(truth, way.label(planes))
    return scores


class _Pool:
    """Average precision of the objects of many images together."""

    def __init__(self) -> None:
        self._matches = np.zeros(len(IOU_THRESHOLDS), dtype=np.int64)
        self._objects = 0

    def add(self, overlaps: Overlaps) -> None:
        self._matches += [overlaps.count_matches(threshold) for threshold in IOU_THRESHOLDS]
        self._objects += overlaps.objects

    def describe(self) -> dict[str, float]:
        precisions = self._matches / np.maximum(self._objects - self._matches, 1)
        return {"ap50": float(precisions[0]), "ap50_95": float(precisions.mean())}


def _subtract(mine: float | None, theirs: float | None) -> float | None:
    return None if mine is None or theirs is None else mine - theirs
