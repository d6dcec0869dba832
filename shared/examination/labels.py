"""What the labels of an image say: how much of it is foreground, how many objects there are, and how large."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from shared.imaging.tiling import Pixels

Labels = NDArray[np.integer]  # (H, W), 0 = background; none below 0
Counts = NDArray[np.int64]
Areas = NDArray[np.float64]

BINS = 32  # of sizes: bin i counts objects of 2^i … 2^(i+1) − 1 px
BAND = 2**22  # px worked on at once
SPARSE = 65_536  # labels that an image may leave unused; beyond, they are numbered anew


class ClassStatistics(BaseModel):
    """One class of an image."""

    model_config = ConfigDict(frozen=True)

    pixels: int
    fraction: float  # of the image's pixels
    objects: int | None  # whose commonest class it is; None where objects are not told apart


class LabelStatistics(BaseModel):
    """The facts about an image's labels, as JSON. What concerns objects is None where they are not told apart.

    Of outlines on a slide, sizes are areas, and `touching` and `cut` are None.
    """

    model_config = ConfigDict(frozen=True)

    foreground: float  # share of the pixels
    objects: int | None
    sizes: list[int] | None  # how many objects have 2^i … 2^(i+1) − 1 px, i from 0 to 31
    median: float | None  # size, px; the next two are percentiles; None also if there is no object
    p5: float | None
    p95: float | None
    touching: int | None  # objects that share an edge of a pixel with another
    cut: int | None  # objects that reach the image's border
    classes: dict[int, ClassStatistics]  # by number, background left out; empty if there are no classes


def examine_labels(labels: Labels | None, classes: Pixels | None) -> LabelStatistics:
    """Statistics of label image and class image, both (H, W) with 0 = background; one of them may be missing.

    Raises:
        ValueError: both are missing, or their sizes differ.
    """
    given = [image for image in (labels, classes) if image is not None]
    if not given or len({image.shape for image in given}) > 1:
        raise ValueError("statistics need labels or classes (H, W), and of one size")
    foreground = float(np.count_nonzero(given[0]) / given[0].size)
    if labels is None:
        found = {} if classes is None else _count_classes(classes, None)
        return LabelStatistics(foreground=foreground, **_nothing(), classes=found)
    numbered = _number(labels)
    counts = _count(numbered)
    present = counts[1:][counts[1:] > 0]
    quantiles = np.percentile(present, [50, 5, 95]).tolist() if present.size else [None] * 3
    majority = None if classes is None else _find_majority(numbered, classes, counts)
    return LabelStatistics(
        foreground=foreground,
        objects=int(present.size),
        sizes=np.bincount(np.log2(present).astype(np.intp), minlength=BINS).tolist(),
        **dict(zip(("median", "p5", "p95"), quantiles, strict=True)),
        touching=_count_touching(numbered, counts.size),
        cut=_count_cut(numbered),
        classes={} if classes is None else _count_classes(classes, majority),
    )


def describe_objects(areas: Areas, categories: Pixels | None, *, pixels: int) -> LabelStatistics:
    """Statistics of objects that are outlines on an image of so many `pixels`, by their areas (n,) in px².

    `categories` (n,): class of each object, 0 for none. What several objects cover counts for each of them. Which
    objects touch another or the border is not found out.
    """
    bins = np.log2(np.maximum(areas, 1)).astype(np.intp).clip(None, BINS - 1)
    quantiles = np.percentile(areas, [50, 5, 95]).tolist() if areas.size else [None] * 3
    covered = np.bincount(categories, weights=areas, minlength=1) if categories is not None else np.zeros(1)
    counts = np.bincount(categories, minlength=1) if categories is not None else np.zeros(1, np.int64)
    return LabelStatistics(
        foreground=min(float(areas.sum()) / pixels, 1.0),
        objects=areas.size,
        sizes=np.bincount(bins, minlength=BINS).tolist(),
        **dict(zip(("median", "p5", "p95"), quantiles, strict=True)),
        touching=None,
        cut=None,
        classes={
            number: ClassStatistics(
                pixels=round(covered[number]),
                fraction=min(float(covered[number]) / pixels, 1.0),
                objects=int(counts[number]),
            )
            for number in np.flatnonzero(counts).tolist()
            if number > 0
        },
    )


def _nothing() -> dict[str, None]:
    return dict.fromkeys(("objects", "sizes", "median", "p5", "p95", "touching", "cut"))


def _number(labels: Labels) -> NDArray[np.integer]:
    """The labels as they are, or numbered anew where they are so large that counting would take too much memory."""
    if int(labels.max(initial=0)) <= labels.size + SPARSE:
        return labels
    used = np.unique(labels)
    start = 0 if used[0] == 0 else 1
    return (np.searchsorted(used, labels) + start).astype(np.uint32)


def _bands(image: NDArray[np.generic], overlap: int = 0) -> Iterator[slice]:
    """Rows of `image` (H, W), a few million pixels at a time, with rows of the next band if asked for."""
    rows = max(BAND // image.shape[1], 1)
    return (slice(top, top + rows + overlap) for top in range(0, image.shape[0], rows))


def _count(labels: NDArray[np.integer]) -> Counts:
    """Pixels of each label, 0 … the largest."""
    size = int(labels.max(initial=0)) + 1
    counts = np.zeros(size, dtype=np.int64)
    for band in _bands(labels):
        counts += np.bincount(labels[band].ravel(), minlength=size)
    return counts


def _count_touching(labels: NDArray[np.integer], size: int) -> int:
    touches = np.zeros(size, dtype=bool)
    for band in _bands(labels, overlap=1):
        part = labels[band]
        for one, other in ((part[:, :-1], part[:, 1:]), (part[:-1], part[1:])):
            met = (one != other) & (one > 0) & (other > 0)
            touches[one[met]] = True
            touches[other[met]] = True
    return int(np.count_nonzero(touches))


def _count_cut(labels: NDArray[np.integer]) -> int:
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return int(np.unique(border[border > 0]).size)


def _find_majority(labels: NDArray[np.integer], classes: Pixels, counts: Counts) -> Counts:
    """For each label the class of most of its pixels that have one, the lower of equals; 0 for absent ones."""
    most = np.zeros(counts.size, dtype=np.int64)
    majority = np.zeros(counts.size, dtype=np.int64)
    for number in np.flatnonzero(np.bincount(classes.ravel(), minlength=2)[1:]) + 1:
        inside = np.bincount(labels[classes == number], minlength=counts.size)
        majority[inside > most] = number
        np.maximum(most, inside, out=most)
    majority[0] = 0
    return majority


def _count_classes(classes: Pixels, majority: Counts | None) -> dict[int, ClassStatistics]:
    pixels = np.zeros(256, dtype=np.int64)
    for band in _bands(classes):
        pixels += np.bincount(classes[band].ravel(), minlength=256)
    objects = None if majority is None else np.bincount(majority, minlength=256)
    return {
        int(number): ClassStatistics(
            pixels=int(pixels[number]),
            fraction=float(pixels[number] / classes.size),
            objects=None if objects is None else int(objects[number]),
        )
        for number in np.flatnonzero(pixels)
        if number > 0
    }
