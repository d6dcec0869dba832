"""What is known of an image: its objects, or the class of each pixel; and how it follows the image's geometry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.imaging.steps.resizing import Axis
from shared.imaging.tiling import Box, Pixels

Labels = NDArray[np.int32]
Plane = NDArray[Any]  # (H, W)


@dataclass(frozen=True)
class Truth:
    """Either may be missing; both, if an image has no mask.

    `labels` (H, W): 1, 2, … for the objects. `classes` (H, W): index of the class, of a binary mask 1. 0: background.
    """

    labels: Labels | None = None
    classes: Pixels | None = None

    @property
    def foreground(self) -> NDArray[np.bool_] | None:
        """(H, W), true where there is an object or a class."""
        plane = self.labels if self.labels is not None else self.classes
        return None if plane is None else plane > 0

    def each(self, change: Callable[[Plane], Plane]) -> "Truth":
        """The same change of geometry for whatever there is."""
        labels = None if self.labels is None else np.ascontiguousarray(change(self.labels))
        classes = None if self.classes is None else np.ascontiguousarray(change(self.classes))
        return Truth(labels, classes)

    def whole(self) -> "Truth":
        """All of it, as `DrawnTruth` says it."""
        return self

    def crop(self, box: Box) -> "Truth":
        """What lies in a box inside the image, a copy. Objects keep their numbers."""
        return self.each(lambda plane: plane[box.slices()].copy())

    def resize(self, height: int, width: int) -> "Truth":
        """Each new pixel is the one at its middle, so that no new values arise."""

        def pick(plane: Plane) -> Plane:
            rows, columns = Axis(plane.shape[0], height), Axis(plane.shape[1], width)
            return plane[np.ix_(rows.nearest(0, height), columns.nearest(0, width))]

        return self.each(pick)
