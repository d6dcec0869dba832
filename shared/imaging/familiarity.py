"""What images look like that a model learnt from, and how far another one is from them.

By the distance to the nearest of them (Knorr and Ng 1998, "Algorithms for mining distance-based outliers in large
datasets"), not by ranges of single features: a training set of fluorescence and of stained tissue has wide ranges, and
nothing in the middle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.imaging.quality import FEATURES, LIKENESS, Features, as_points

Point = NDArray[np.float64]  # (9,), see `shared.imaging.quality.as_points`
QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)
EXAMPLES = 512  # at most: 30 kB of a contract
FEWEST = 20  # images, of which examples say what is usual
WIDTH = 3.29  # standard deviations of a normal distribution between its quantiles of 5 and 95 %
LEVEL, RATIO = 1.0, 0.1  # differences of grey levels, and of details, that are none
NEAR = 0.25  # standard deviations; no image is called unlike another for less, though most had a twin


class Known(Protocol):
    """What a model's contract says about the images that it learnt from."""

    @property
    def images(self) -> int:
        """How many they were."""
        ...

    @property
    def quantiles(self) -> Mapping[str, Sequence[float]]:
        """By feature, those of QUANTILES over the images."""
        ...

    @property
    def examples(self) -> Sequence[Sequence[float]]:
        """Some of the images, or all, by what makes images alike."""
        ...

    @property
    def reach(self) -> float:
        """How far 99 % of the images are from the nearest example but themselves; see `find_reach`."""
        ...


@dataclass(frozen=True)
class Familiar:
    """As it is found when a model is trained; see `Known`."""

    images: int
    quantiles: dict[str, tuple[float, ...]]
    examples: list[tuple[float, ...]]
    reach: float


def find_familiar(features: Sequence[Features]) -> Familiar | None:
    """What the images have in common that a model learns from; None of fewer than twenty."""
    if len(features) < FEWEST:
        return None
    table = np.array([list(asdict(each).values()) for each in features])
    quantiles = np.quantile(table, QUANTILES, axis=0).round(4).T.tolist()
    named = {name: tuple(values) for name, values in zip(FEATURES, quantiles, strict=True)}
    points = as_points(features)
    chosen = np.unique(np.linspace(0, len(points) - 1, min(EXAMPLES, len(points))).round().astype(int))
    scale = find_scale(named)
    nearest = [_find_nearest(point / scale, points[chosen[chosen != n]] / scale)[1] for n, point in enumerate(points)]
    examples = [tuple(row) for row in points[chosen].round(2).tolist()]
    return Familiar(len(features), named, examples, max(round(float(np.quantile(nearest, 0.99)), 4), NEAR))


def find_reach(familiar: Known) -> float:
    """How far an image may be from the nearest; above 0, whatever a contract says."""
    return max(familiar.reach, NEAR)


def find_scale(quantiles: Mapping[str, Sequence[float]]) -> Point:
    """What one standard deviation is, (9,), of each feature by which images are alike."""
    widths = [(quantiles[name][3] - quantiles[name][1]) / WIDTH for name in LIKENESS]
    finest = [RATIO if name.startswith("detail") else LEVEL for name in LIKENESS]
    return np.maximum(widths, finest)


def find_distance(features: Features, familiar: Known) -> tuple[float, str]:
    """How far the image is from the nearest one that was learnt from, and in what most, of what makes images alike."""
    scale = find_scale(familiar.quantiles)
    gap, distance = _find_nearest(as_points([features])[0] / scale, np.array(familiar.examples) / scale)
    return distance, LIKENESS[int(np.abs(gap).argmax())]


def _find_nearest(point: Point, others: NDArray[np.float64]) -> tuple[Point, float]:
    """The way to the nearest (9,), and its length."""
    gaps = point - others
    lengths = np.sqrt((gaps * gaps).sum(axis=1))
    nearest = int(lengths.argmin())
    return gaps[nearest], float(lengths[nearest])
