"""Steps that change masks: morphology, boundaries, regions, classes. An image without a mask has nothing to change."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from shared.imaging.steps.morphology import (
    Check,
    Mask,
    Numbers,
    close_each,
    find_differing,
    find_places,
    go_on,
    open_each,
)
from shared.imaging.steps.truth import Labels, Truth
from shared.imaging.tiling import Pixels


@dataclass(frozen=True)
class MaskStep(ABC):
    """Its fields are the parameters that `shared.schemas.steps` describes.

    `check` is called before each object, and may raise to break it off.
    """

    check: Check = field(default=go_on, kw_only=True, compare=False, repr=False)

    @property
    def reach(self) -> int | None:
        """A pixel depends on those that are no further away than this, px; None: on whole objects."""
        return 0

    def __call__(self, truth: Truth) -> Truth:
        """The truth after the step. Raises ValueError, with the mend, if the mask is not of the kind it takes."""
        return truth if truth.foreground is None else self._apply(truth)

    @abstractmethod
    def _apply(self, truth: Truth) -> Truth: ...


@dataclass(frozen=True)
class InvertMask(MaskStep):
    """Background ↔ foreground."""

    def _apply(self, truth: Truth) -> Truth:
        return _binary(~_foreground(truth))


@dataclass(frozen=True)
class Merge(MaskStep):
    """Objects → foreground."""

    def _apply(self, truth: Truth) -> Truth:
        return _binary(_foreground(truth))


@dataclass(frozen=True)
class MapClasses(MaskStep):
    """Objects whose class becomes background are no objects any more."""

    mapping: Mapping[int, int]
    others: Literal["background", "keep"] = "background"

    def _apply(self, truth: Truth) -> Truth:
        if truth.classes is None:
            raise ValueError("its mask numbers objects and says no classes; leave the step map_classes out")
        table = np.arange(256, dtype=np.uint8) if self.others == "keep" else np.zeros(256, dtype=np.uint8)
        for old, new in self.mapping.items():
            table[int(old)] = new
        classes = table[truth.classes]
        return Truth(None if truth.labels is None else np.where(classes > 0, truth.labels, np.int32(0)), classes)


@dataclass(frozen=True)
class _Morphology(MaskStep):
    """Each object or class for itself (Serra 1982); what is mirrored lies beyond the border."""

    radius: int

    @property
    def reach(self) -> int:
        return 2 * self.radius

    def _apply(self, truth: Truth) -> Truth:
        numbers = self._change(_numbers(truth))
        if truth.labels is None:
            return Truth(None, numbers.astype(np.uint8))
        labels = numbers.astype(np.int32)
        return Truth(labels, None if truth.classes is None else _spread_classes(truth.labels, truth.classes, labels))

    @abstractmethod
    def _change(self, numbers: Numbers) -> Numbers: ...


class Opening(_Morphology):
    """Narrow parts go."""

    def _change(self, numbers: Numbers) -> Numbers:
        return open_each(numbers, self.radius, self.check)


class Closing(_Morphology):
    """Narrow gaps of background are filled; a gap between two goes to the one of the higher number."""

    def _change(self, numbers: Numbers) -> Numbers:
        return close_each(numbers, self.radius, self.check)


@dataclass(frozen=True)
class Boundary(MaskStep):
    """Where numbers differ within a disc of `width` px; of 1 px: the four neighbours."""

    width: int = 1
    side: Literal["inner", "outer", "thick"] = "inner"
    output: Literal["binary", "class"] = "binary"
    number: int = 2

    @property
    def reach(self) -> int:
        return self.width

    def _apply(self, truth: Truth) -> Truth:
        found = find_boundaries(_numbers(truth), self.width, self.side, self.check)
        if self.output == "binary":
            return _binary(found)
        interior = _foreground(truth).astype(np.uint8) if truth.classes is None else truth.classes
        if interior.max(initial=0) >= self.number:
            raise ValueError(
                f"its mask has a class {interior.max()} already; give boundaries a number above it, not {self.number}"
            )
        return Truth(None, np.where(found, np.uint8(self.number), interior))


@dataclass(frozen=True)
class Fill(MaskStep):
    """Holes, or the regions between contours."""

    mode: Literal["holes", "contours"] = "holes"
    area: int | None = None
    border: Literal["keep", "drop"] = "keep"

    @property
    def reach(self) -> None:
        return None

    def _apply(self, truth: Truth) -> Truth:
        if self.mode == "contours":
            return Truth(self._number_regions(_foreground(truth)), None)
        numbers = self._fill_each(_numbers(truth))
        if truth.labels is None:
            return Truth(None, numbers.astype(np.uint8))
        labels = numbers.astype(np.int32)
        return Truth(labels, None if truth.classes is None else _spread_classes(truth.labels, truth.classes, labels))

    def _number_regions(self, contours: Mask) -> Labels:
        """Regions (H, W) that contours part, also where these meet at corners only: 1, 2, …, 0 on contours."""
        regions, _ = ndimage.label(~contours)
        if self.border == "drop":
            edges = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
            regions[np.isin(regions, edges)] = 0
            _, places = np.unique(np.concatenate([[0], regions.ravel()]), return_inverse=True)
            regions = places[1:].reshape(regions.shape)
        return np.asarray(regions, dtype=np.int32)

    def _fill_each(self, numbers: Numbers) -> Numbers:
        result = numbers.copy()
        for number, box in find_places(numbers, self.check):
            place = box.slices()
            here = numbers[place] == number
            holes = ndimage.binary_fill_holes(here) & (numbers[place] == 0)
            result[place][_drop_large(holes, self.area)] = number
        return result


def find_boundaries(
    numbers: Numbers, width: int, side: Literal["inner", "outer", "thick"], check: Check = go_on
) -> Mask:
    """True (H, W) on pixels of objects (inner), around objects (outer) or both (thick), up to `width` px from the
    other side. Where two objects touch, outer marks both sides, as scikit-image's function of this name does.
    """
    differs = find_differing(numbers, width, check)
    if side == "thick":
        return differs
    if side == "inner":
        return differs & (numbers > 0)
    square = {"size": 2 * width + 1, "mode": "nearest"}  # objects touch at corners too
    objects = np.where(numbers == 0, np.iinfo(numbers.dtype).max, numbers)
    touch = ndimage.maximum_filter(numbers, **square) != ndimage.minimum_filter(objects, **square)
    return np.asarray(differs & ((numbers == 0) | touch))


MASK_STEPS: dict[str, type[MaskStep]] = {
    "invert_mask": InvertMask,
    "opening": Opening,
    "closing": Closing,
    "boundary": Boundary,
    "fill": Fill,
    "merge": Merge,
    "map_classes": MapClasses,
}


def make_mask_step(step: Mapping[str, Any], check: Check = go_on) -> MaskStep:
    """From its fields, see `shared.imaging.steps.kinds.make_image_steps`."""
    fields = {name: value for name, value in step.items() if name != "step"}
    return MASK_STEPS[step["step"]](**fields, check=check)


def _binary(mask: Mask) -> Truth:
    return Truth(None, mask.astype(np.uint8))


def _foreground(truth: Truth) -> Mask:
    foreground = truth.foreground
    if foreground is None:
        raise ValueError("there is no mask")
    return foreground


def _numbers(truth: Truth) -> Numbers:
    """Of objects, if they are told apart, or of classes."""
    numbers: Numbers | None = truth.labels if truth.labels is not None else truth.classes
    if numbers is None:
        raise ValueError("there is no mask")
    return numbers


def _drop_large(holes: Mask, area: int | None) -> Mask:
    if area is None:
        return holes
    regions, count = ndimage.label(holes)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)
    return np.asarray(holes & (sizes <= area)[regions])


def _spread_classes(before: Labels, classes: Pixels, labels: Labels) -> Pixels:
    """Classes (H, W) of changed objects: each has the class that most of its pixels had; of equals the lower one."""
    count = int(before.max(initial=0)) + 1
    votes = np.bincount(before.ravel().astype(np.int64) * 256 + classes.ravel(), minlength=count * 256)
    table = votes.reshape(count, 256).argmax(axis=1).astype(np.uint8)
    table[0] = 0
    return np.where((labels > 0) & (labels == before), classes, table[labels])
