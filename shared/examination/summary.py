"""What a dataset is like as a whole, gathered image by image: a hundred thousand take the memory of a few."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from shared.examination.images import BINS, ImageExamination
from shared.examination.labels import BINS as SIZES
from shared.examination.labels import LabelStatistics
from shared.schemas.manifests import Problem

MOST = 50  # different sizes, formats or classes that are listed; the rest count as "other"
OTHER, NONE = "other", "none"


@dataclass(frozen=True)
class ImageRecord:
    """An image of a version. What could not be found out is None."""

    name: str
    accepted: bool
    split: str | None = None
    problems: Sequence[Problem] = ()
    examination: ImageExamination | None = None
    labels: LabelStatistics | None = None


class Distribution(BaseModel):
    """How a number is spread over the images: smallest, mean and largest, of those that have it."""

    model_config = ConfigDict(frozen=True)

    count: int
    smallest: float
    mean: float
    largest: float


class ClassTotal(BaseModel):
    """One class over all accepted images."""

    model_config = ConfigDict(frozen=True)

    images: int  # that show it
    pixels: int
    objects: int | None


class DatasetSummary(BaseModel):
    """Counts and distributions as JSON. All but the first four, and the problems, are of accepted images alone."""

    model_config = ConfigDict(frozen=True)

    images: int
    accepted: int
    rejected: int
    warned: int  # accepted, with warnings
    problems: dict[str, int]  # code → images
    splits: dict[str, int]  # name → images; "none" where nobody said
    sizes: dict[str, int]  # "width × height" in px → images
    formats: dict[str, int]
    resolutions: dict[str, int]  # µm per pixel, three digits → images
    illuminations: dict[str, int]
    masked: int  # images with a mask
    sampled: int  # images so large that not every pixel was looked at
    pixels: int
    intensities: list[list[float]]  # share of the pixels in 64 bins of 4 grey levels: grey images, or red, green, blue
    foreground: Distribution | None  # share of an image
    objects: int | None  # None where no mask tells them apart
    objects_per_image: Distribution | None
    object_sizes: list[int]  # objects of 2^i … 2^(i+1) − 1 px
    touching: int  # objects
    focus: Distribution | None  # variance of the Laplacian
    classes: dict[int, ClassTotal] = Field(default_factory=dict)


class _Spread:
    """A distribution in the making."""

    def __init__(self) -> None:
        self._count, self._sum, self._low, self._high = 0, 0.0, np.inf, -np.inf

    def add(self, value: float) -> None:
        self._count += 1
        self._sum += value
        self._low, self._high = min(self._low, value), max(self._high, value)

    def close(self) -> Distribution | None:
        if self._count == 0:
            return None
        return Distribution(count=self._count, smallest=self._low, mean=self._sum / self._count, largest=self._high)


class _Tally:
    """A summary in the making."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        self.splits: Counter[str] = Counter()
        self.sizes: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self.resolutions: Counter[str] = Counter()
        self.illuminations: Counter[str] = Counter()
        self.pixels = self.sampled = self.masked = self.touching = 0
        self.intensities = np.zeros((3, BINS))
        self.grey = True
        self.foreground, self.per_image, self.focus = _Spread(), _Spread(), _Spread()
        self.objects: int | None = None
        self.object_sizes = np.zeros(SIZES, dtype=np.int64)
        self.classes: dict[int, ClassTotal] = {}

    def add(self, record: ImageRecord) -> None:
        self.states["accepted" if record.accepted else "rejected"] += 1
        self.problems.update({problem.code for problem in record.problems})
        if not record.accepted:
            return
        self.states["warned"] += bool(record.problems)
        self.splits[record.split or NONE] += 1
        if record.examination is not None:
            self._add_image(record.examination)
        if record.labels is not None:
            self._add_labels(record.labels)

    def _add_image(self, image: ImageExamination) -> None:
        _count(self.sizes, f"{image.width} × {image.height}")
        _count(self.formats, image.format)
        _count(self.resolutions, NONE if image.mpp is None else f"{image.mpp:.3g}")
        self.illuminations[image.illumination] += 1
        self.pixels += image.height * image.width
        self.sampled += image.sampled
        histogram = np.array(image.histogram, dtype=np.float64)
        # A share of what was seen stands for the whole image, so that a sampled slide weighs what it is.
        self.intensities += histogram / histogram.sum(axis=1, keepdims=True) * (image.height * image.width)
        self.grey &= image.grey
        self.focus.add(image.focus)

    def _add_labels(self, labels: LabelStatistics) -> None:
        self.masked += 1
        self.foreground.add(labels.foreground)
        for number, found in labels.classes.items():
            self._add_class(number, found.pixels, found.objects)
        if labels.objects is None or labels.sizes is None:
            return
        self.objects = (self.objects or 0) + labels.objects
        self.per_image.add(labels.objects)
        self.object_sizes += labels.sizes
        self.touching += labels.touching or 0

    def _add_class(self, number: int, pixels: int, objects: int | None) -> None:
        before = self.classes.get(number, ClassTotal(images=0, pixels=0, objects=None))
        together = before.objects if objects is None else (before.objects or 0) + objects
        self.classes[number] = ClassTotal(images=before.images + 1, pixels=before.pixels + pixels, objects=together)

    def close(self) -> DatasetSummary:
        kept = self.intensities[: 1 if self.grey else 3]
        return DatasetSummary(
            images=self.states["accepted"] + self.states["rejected"],
            accepted=self.states["accepted"],
            rejected=self.states["rejected"],
            warned=self.states["warned"],
            problems=_order(self.problems),
            splits=_order(self.splits),
            sizes=_order(self.sizes),
            formats=_order(self.formats),
            resolutions=_order(self.resolutions),
            illuminations=_order(self.illuminations),
            masked=self.masked,
            sampled=self.sampled,
            pixels=self.pixels,
            intensities=(kept / max(self.pixels, 1)).tolist(),
            foreground=self.foreground.close(),
            objects=self.objects,
            objects_per_image=self.per_image.close(),
            object_sizes=self.object_sizes.tolist(),
            touching=self.touching,
            focus=self.focus.close(),
            classes=dict(sorted(self.classes.items())),
        )


def summarise(images: Iterable[ImageRecord]) -> DatasetSummary:
    """The summary of a version; its images may come one by one."""
    tally = _Tally()
    for image in images:
        tally.add(image)
    return tally.close()


def _count(counter: Counter[str], name: str) -> None:
    """Count it by name, unless there are too many names already."""
    counter[name if name in counter or len(counter) < MOST else OTHER] += 1


def _order(counter: Counter[str]) -> dict[str, int]:
    """The commonest first, equals by name, so that one dataset has one summary."""
    return dict(sorted(counter.items(), key=lambda entry: (-entry[1], entry[0])))
