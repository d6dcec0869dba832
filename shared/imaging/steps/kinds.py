"""From the fields of a step, as it was ordered, to what does it."""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.imaging.steps.clahe import Clahe
from shared.imaging.steps.colours import Channels, Equalise, Greyscale, Invert, Normalise, Stain
from shared.imaging.steps.neighbourhoods import Median
from shared.imaging.steps.resizing import Resize
from shared.imaging.steps.views import ImageStep

IMAGE_STEPS: dict[str, type[ImageStep]] = {
    "resize": Resize,
    "channels": Channels,
    "greyscale": Greyscale,
    "invert": Invert,
    "normalise": Normalise,
    "equalise": Equalise,
    "clahe": Clahe,
    "stain": Stain,
    "median": Median,
}


def make_image_steps(steps: Iterable[Mapping[str, Any]]) -> list[ImageStep]:
    """Those of the steps that change images, in their order; `step` names each, the other fields are its parameters.

    Raises:
        TypeError: a field that the step does not have. `shared.schemas.steps` would have refused it.
    """
    return [
        IMAGE_STEPS[step["step"]](**{name: value for name, value in step.items() if name != "step"})
        for step in steps
        if step["step"] in IMAGE_STEPS
    ]
