"""What is known of a slide whose mask is outlines: drawn where it is asked for, so that it is never held."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import Rejected
from shared.imaging.steps.mask_steps import MaskStep
from shared.imaging.steps.resizing import read_nearest
from shared.imaging.steps.truth import Truth
from shared.imaging.tiling import Box

Draw = Callable[[Box], Truth]


@dataclass(frozen=True)
class DrawnTruth:
    """A `Truth` of height × width px. Any box that is cropped is what a held one would have there, bit for bit."""

    name: str  # of the image, for messages
    height: int
    width: int
    crop: Draw  # of a box inside the image; objects keep their numbers wherever it lies

    @property
    def box(self) -> Box:
        """All of the image."""
        return Box(0, 0, self.height, self.width)

    def whole(self) -> Truth:
        """All of it: for images that are small by now."""
        return self.crop(self.box)

    def resize(self, height: int, width: int) -> "DrawnTruth":
        """Each new pixel is the one at its middle."""
        source, target = (self.height, self.width), (height, width)
        like = self.crop(Box(0, 0, 1, 1))

        def pick(box: Box) -> Truth:
            planes = read_nearest(lambda part: _stack(self.crop(part)), box, source=source, target=target)
            return _unstack(planes, like)

        return DrawnTruth(self.name, height, width, pick)

    def after(self, step: MaskStep, called: str) -> "DrawnTruth":
        """The truth after a step of masks.

        Raises:
            Rejected: the step needs whole objects. Cropping raises it, too, for a mask that the step does not take.
        """
        reach = step.reach
        if reach is None:
            raise Rejected(
                f"{self.name}: its mask is outlines that are drawn part by part, and the step {called} needs whole "
                f"objects; put tile into a preprocess of its own first, and {called} into the next"
            )

        def change(box: Box) -> Truth:
            seen = box.grow(reach).intersect(self.box)
            try:
                changed = _apply(step, self.crop(seen))
            except ValueError as error:
                raise Rejected(f"{self.name}: {error}") from error
            return changed.crop(box.move(-seen.top, -seen.left))

        return DrawnTruth(self.name, self.height, self.width, change)


def _apply(step: MaskStep, truth: Truth) -> Truth:
    """The step, done to objects that are numbered from 1: it takes memory for each number up to the highest."""
    if truth.labels is None:
        return step(truth)
    used, places = np.unique(np.append(truth.labels.ravel(), 0), return_inverse=True)
    changed = step(Truth(places[:-1].reshape(truth.labels.shape).astype(np.int32), truth.classes))
    return changed if changed.labels is None else Truth(used[changed.labels], changed.classes)


def _stack(truth: Truth) -> NDArray[np.int32]:
    """What there is (h, w, 0 … 2)."""
    return np.stack([plane for plane in (truth.labels, truth.classes) if plane is not None], axis=2, dtype=np.int32)


def _unstack(planes: NDArray[np.int32], like: Truth) -> Truth:
    labels = None if like.labels is None else np.ascontiguousarray(planes[:, :, 0])
    classes = None if like.classes is None else planes[:, :, -1].astype(np.uint8)
    return Truth(labels, classes)
