"""Slides as the steps of preprocessing see them."""

from collections.abc import Callable, Sequence

from shared.imaging.steps.colours import Channels
from shared.imaging.steps.kinds import make_image_steps
from shared.imaging.steps.views import Frame, ImageStep, View, reframe
from shared.imaging.tiling import Box, Pixels
from shared.schemas.steps import ImageStep as OrderedStep
from shared.slides import Slide

UNNAMED = "the image"


def steps_of(ordered: Sequence[OrderedStep]) -> list[ImageStep]:
    """What does the steps that a contract lists."""
    return make_image_steps([step.model_dump() for step in ordered])


def view_of(
    slide: Slide, steps: Sequence[ImageStep], *, name: str = UNNAMED, check: Callable[[], None] | None = None
) -> View:
    """A slide before the steps: grey as one channel; every channel of the file, if they begin by choosing; else RGB.

    `name`: for messages. `check`: called before anything is read, and may raise to break it off.
    """
    with_channels = len(slide.channels) == 1 or (len(steps) > 0 and isinstance(steps[0], Channels))
    level = slide.levels[0]
    frame = Frame(name, slide.height, slide.width, mpp=slide.mpp, tile=level.tile)
    if with_channels:
        frame = Frame(name, slide.height, slide.width, slide.channels, slide.mpp, level.tile)

    def read(box: Box) -> Pixels:
        if check is not None:
            check()
        return slide.read_channels(box) if with_channels else slide.read(box)

    return View(frame, read, level.pieces)


def find_frame(slide: Slide, ordered: Sequence[OrderedStep], *, name: str) -> Frame:
    """What the slide is after the steps, without reading any of it. Raises Rejected if one of them cannot take it."""
    steps = steps_of(ordered)
    return reframe(view_of(slide, steps, name=name).frame, steps)
