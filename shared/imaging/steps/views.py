"""Images whose pixels are worked out where they are asked for, so that a slide is never held.

A step is planned once over the image before it: what takes the whole image to know (its facts) is found piece by
piece. Then any box of the image after it can be read, and holds exactly what the whole would hold there.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from shared.imaging.tiling import Box, Pixels, plan_blocks

Facts = dict[str, Any]  # JSON
Read = Callable[[Box], Pixels]

PIECE = 2048  # px, side of what is read at once when going over an image whose file does not say better
RGB = ("red", "green", "blue")
GREY = ("grey",)


@dataclass(frozen=True)
class Frame:
    """What is known of an image before any of its pixels is read."""

    name: str  # for messages
    height: int  # px
    width: int  # px
    channels: tuple[str, ...] = RGB  # their names
    mpp: float | None = None  # µm per pixel
    tile: tuple[int, int] = (1, 1)  # (height, width) of what is decoded at once, px

    @property
    def box(self) -> Box:
        """All of the image."""
        return Box(0, 0, self.height, self.width)


@dataclass(frozen=True)
class View:
    """An image: `read` gives uint8 (box.height, box.width, channels) of a box inside it, an array of the caller's own.

    `cut`: boxes of a few million px that cover it once, in an order that suits its file.
    """

    frame: Frame
    read: Read
    cut: Callable[[], Iterator[Box]] | None = field(default=None)

    @classmethod
    def of(cls, pixels: Pixels, *, name: str = "image", mpp: float | None = None) -> Self:
        """An image (H, W, 1 or 3) that is in memory."""
        height, width, channels = pixels.shape
        frame = Frame(name, height, width, GREY if channels == 1 else RGB, mpp)
        return cls(frame, lambda box: pixels[box.slices()].copy())

    def boxes(self) -> Iterator[Box]:
        """Boxes of a few million px that cover the image once."""
        if self.cut is not None:
            return self.cut()
        return plan_blocks(self.frame.height, self.frame.width, side=PIECE)

    def pieces(self) -> Iterator[Pixels]:
        """The image, piece by piece."""
        return (self.read(box) for box in self.boxes())

    def whole(self) -> Pixels:
        """All pixels (H, W, C)."""
        return self.read(self.frame.box)


class ImageStep(ABC):
    """A step that changes images. Its fields are the parameters that `shared.schemas.steps` describes."""

    def reframe(self, frame: Frame) -> Frame:
        """What becomes of size, channels and scale. Raises Rejected, naming the image, if the step cannot take it."""
        return frame

    def plan(self, view: View) -> Facts:  # noqa: ARG002  # most look at nothing
        """What must be known of the whole image before it. Raises as reading does."""
        return {}

    @abstractmethod
    def reader(self, view: View, facts: Facts) -> Read:
        """Reads boxes of the image after the step; `facts`: what `plan` found, perhaps after a way through JSON."""

    def over(self, view: View, facts: Facts) -> View:
        """The image after the step."""
        frame = self.reframe(view.frame)
        is_same = (frame.height, frame.width) == (view.frame.height, view.frame.width)
        return View(frame, self.reader(view, facts), view.cut if is_same else None)


def reframe(frame: Frame, steps: Sequence[ImageStep]) -> Frame:
    """What the image is after all steps, without reading any of it. Raises Rejected if a step cannot take it."""
    for step in steps:
        frame = step.reframe(frame)
    return frame


def plan_steps(view: View, steps: Sequence[ImageStep]) -> tuple[View, list[Facts]]:
    """The image after all steps, and what was found out about it for each of them."""
    reframe(view.frame, steps)  # or hours may pass before the last step refuses the image
    found: list[Facts] = []
    for step in steps:
        found.append(step.plan(view))
        view = step.over(view, found[-1])
    return view, found


def apply_steps(view: View, steps: Sequence[ImageStep], found: Sequence[Facts]) -> View:
    """The image after all steps, by what `plan_steps` found out about it.

    Raises:
        ValueError: the facts are not those of as many steps.
    """
    for step, facts in zip(steps, found, strict=True):
        view = step.over(view, facts)
    return view
