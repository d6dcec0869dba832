"""What the objects of an image, or of many, have in common: sums and counts that add up, in whichever order."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shared.imaging.objects.table import ObjectTable

STEPS = 8  # bins of areas in a doubling: a bin is 9 % wide
# Columns whose mean over the objects is of interest, besides the intensities.
AVERAGED = ("area_px2", "area_um2", "perimeter_px", "equivalent_diameter_px", "eccentricity", "solidity", "probability")
MOST_CLASSES = 64  # that are counted by name; a row of the job keeps them
OTHER = "other"


@dataclass
class ObjectSummary:
    """Of any number of tables. As JSON it has less than 4 kB, unless classes have very long names."""

    count: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    sums: dict[str, float] = field(default_factory=dict)  # by column, over the objects that have a value
    counts: dict[str, int] = field(default_factory=dict)  # by column, these objects
    areas_px2: Counter[int] = field(default_factory=Counter)  # by bin: 2^(bin / 8) px² and more
    areas_um2: Counter[int] = field(default_factory=Counter)  # likewise, µm²; empty where µm per pixel are unknown

    def add(self, table: ObjectTable) -> None:
        """Count the objects of a table; no object may come twice."""
        columns = table.columns
        if not len(table):
            return
        self.count += len(table)
        self._add_classes(columns["class"])
        for bins, name in ((self.areas_px2, "area_px2"), (self.areas_um2, "area_um2")):
            if name in columns:
                bins.update(_count_bins(np.asarray(columns[name], dtype=np.float64)))
        for name in columns:
            if name in AVERAGED or name.startswith("mean_"):
                values = np.asarray(columns[name], dtype=np.float64)
                finite = np.isfinite(values)
                self.sums[name] = self.sums.get(name, 0.0) + float(values[finite].sum())
                self.counts[name] = self.counts.get(name, 0) + int(finite.sum())

    def join(self, other: "ObjectSummary") -> None:
        """Count the objects of another summary."""
        self.count += other.count
        for name, number in other.classes.items():
            self._count_class(name, number)
        self.areas_px2.update(other.areas_px2)
        self.areas_um2.update(other.areas_um2)
        for name, total in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + total
            self.counts[name] = self.counts.get(name, 0) + other.counts[name]

    def mean(self, column: str) -> float | None:
        """Over the objects that have a value; None if none has."""
        number = self.counts.get(column, 0)
        return self.sums[column] / number if number else None

    def quantile(self, share: float, *, unit: str = "px2") -> float | None:
        """The area (px2 or um2) that a `share` of the objects stays below, as exact as a bin is wide; None of none."""
        bins = self.areas_px2 if unit == "px2" else self.areas_um2
        if not bins:
            return None
        places = sorted(bins)
        sums = np.cumsum([bins[place] for place in places])
        wanted = share * sums[-1]
        at = min(int(np.searchsorted(sums, wanted)), len(places) - 1)
        within = 1 - (sums[at] - wanted) / bins[places[at]]
        return float(2.0 ** ((places[at] + within) / STEPS))

    def as_json(self) -> dict[str, Any]:
        """For the image's row; `read` reads it back."""
        return {
            "count": self.count,
            "classes": dict(self.classes.most_common()),
            "sums": {name: round(total, 3) for name, total in self.sums.items()},
            "counts": {name: number for name, number in self.counts.items() if number != self.count},
            "areas_px2": _as_pairs(self.areas_px2),
            "areas_um2": _as_pairs(self.areas_um2),
        }

    @classmethod
    def read(cls, described: Mapping[str, Any]) -> Self:
        """The summary that was written so."""
        count, sums = described["count"], described["sums"]
        return cls(
            count,
            Counter(described["classes"]),
            dict(sums),
            {name: described["counts"].get(name, count) for name in sums},
            Counter(dict(described["areas_px2"])),
            Counter(dict(described["areas_um2"])),
        )

    def _add_classes(self, classes: NDArray[Any]) -> None:
        for name, number in zip(*np.unique(np.asarray(classes, dtype=str), return_counts=True), strict=True):
            self._count_class(str(name), int(number))

    def _count_class(self, name: str, number: int) -> None:
        known = name in self.classes or len(self.classes) < MOST_CLASSES
        self.classes[name if known else OTHER] += number


def find_density(count: int, pixels: int, mpp: float | None) -> float | None:
    """Objects per mm² of an area of so many pixels of `mpp` µm; None where that is unknown, or there is no area."""
    if mpp is None or not pixels:
        return None
    return count / (pixels * mpp**2 * 1e-6)


def find_edge(place: int) -> float:
    """Where a bin of areas begins."""
    return float(2.0 ** (place / STEPS))


def _count_bins(areas: NDArray[np.float64]) -> dict[int, int]:
    counted = areas[np.isfinite(areas) & (areas > 0)]
    places, numbers = np.unique(np.floor(np.log2(counted) * STEPS).astype(np.int64), return_counts=True)
    return {int(place): int(number) for place, number in zip(places, numbers, strict=True)}


def _as_pairs(bins: Counter[int]) -> list[tuple[int, int]]:
    return sorted(bins.items())
