"""The objects of an annotation file, to be drawn wherever and as large as they are needed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shared.annotations.annotation import Annotation
from shared.annotations.outlines import Shape, rasterise
from shared.annotations.values import Labels
from shared.errors import Rejected
from shared.imaging.tiling import Box, Pixels


@dataclass(frozen=True, eq=False)
class Shapes:
    """The objects that an annotation file draws on one image."""

    source: str  # name of the file
    shapes: Sequence[Shape]
    class_names: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def draw(self, box: Box, check: Callable[[], None] | None = None) -> Annotation:
        """The annotation of a part of the image, or of the whole.

        Labels are the same wherever the box lies: the object's place in the file, counted from 1. `check` is called now
        and then, and may raise to break it off.
        """
        try:
            labels, contested = rasterise(self.shapes, box, self._find_near(box), check=check)
        except ValueError as error:
            raise Rejected(f"{self.source}: an object cannot be drawn ({error}); export it again") from error
        notes = (f"pixels of more than one object, which the smaller one has: {contested}",) if contested else ()
        classes = None
        if self.class_names:
            classes = self._categories[labels]
        return Annotation("instances", self.source, labels, classes, self.class_names, (*self.notes, *notes))

    def sketch(self, full: tuple[int, int], height: int, width: int) -> Labels:
        """An image of `full` (height, width) px as a small picture of `height × width` px shows its objects.

        An object that is smaller than a pixel of the picture is one pixel of it.
        """
        scale = np.array([height / full[0], width / full[1]])
        corners = self._boxes * np.tile(scale, 2)
        sizes = corners[:, 2:] - corners[:, :2]
        large = np.flatnonzero((sizes > 1).any(axis=1)).tolist()
        small = [shape.scale(*scale.tolist()) for shape in (self.shapes[place] for place in large)]
        labels, _ = rasterise(small, Box(0, 0, height, width))
        labels = np.array([0, *(place + 1 for place in large)], np.int32)[labels]
        dots = np.flatnonzero((sizes <= 1).all(axis=1) & self.lie_in(*full))
        middles = np.clip(corners[dots].reshape(-1, 2, 2).mean(axis=1), 0, [height - 1, width - 1]).astype(np.intp)
        labels[middles[:, 0], middles[:, 1]] = dots + 1
        return labels

    def lie_in(self, height: int, width: int) -> NDArray[np.bool_]:
        """Whether each object's box has something in common with an image of that size, px."""
        top, left, bottom, right = self._boxes.T
        inside: NDArray[np.bool_] = (top < height) & (bottom > 0) & (left < width) & (right > 0)
        return inside

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """Of each object, px², whatever part of it lies in the image."""
        return np.array([shape.area for shape in self.shapes], np.float64)

    @property
    def categories(self) -> Pixels:
        """Number of the class of each object, 0 if it has none."""
        return self._categories[1:]

    @cached_property
    def _boxes(self) -> NDArray[np.int64]:
        """(n, 4): top, left, bottom, right of each object, px; zeros for one without pixels."""
        boxes = (shape.box for shape in self.shapes)
        corners = [(box.top, box.left, box.bottom, box.right) if box else (0, 0, 0, 0) for box in boxes]
        return np.asarray(corners, np.int64).reshape(-1, 4)

    @cached_property
    def _categories(self) -> Pixels:
        """Class by label: of background first."""
        return np.asarray([0, *(shape.category for shape in self.shapes)], np.uint8)

    @cached_property
    def _from_top(self) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
        """Objects from the top: their places, their tops, and how far down they and those before them reach, px.

        So that of a million objects a tile asks a few thousand.
        """
        order = np.argsort(self._boxes[:, 0], kind="stable")
        return order, self._boxes[order, 0], np.maximum.accumulate(self._boxes[order, 2])

    def _find_near(self, box: Box) -> list[int]:
        """Places of the objects whose boxes meet this one, ascending."""
        order, tops, reaches = self._from_top
        first, last = np.searchsorted(reaches, box.top, side="right"), np.searchsorted(tops, box.bottom)
        asked = order[first:last]
        _, left, bottom, right = self._boxes[asked].T
        near: list[int] = np.sort(asked[(bottom > box.top) & (left < box.right) & (right > box.left)]).tolist()
        return near
