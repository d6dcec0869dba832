"""What the tiles of an image are cut from: its pixels, prepared as its model asks, and perhaps their warped selves."""

from collections.abc import Callable, Iterator

import numpy as np

from services.worker.predictor import Predictor, ServedModel
from services.worker.stages.facts import ImageFacts
from services.worker.stages.views import steps_of, view_of
from shared.imaging.normalisation import to_channels, to_rgb
from shared.imaging.preparation import Preparation
from shared.imaging.sampling import read_sample
from shared.imaging.steps.views import apply_steps, plan_steps
from shared.imaging.tiling import Box, Pixels
from shared.imaging.warping import AreaMean, read_warped
from shared.schemas.contracts import TilingContract
from shared.slides import Slide

Check = Callable[[], None]  # raises if the work should stop
Read = Callable[[Box], Pixels]


def look_over(slide: Slide, facts: ImageFacts, model: ServedModel, *, predictor: Predictor, check: Check) -> ImageFacts:
    """The facts with what takes the whole image to know, if the model asks for it.

    Only what is asked for is read: a sample for the stains, the image piece by piece once for its histogram and once
    for its overview, and whatever the steps of preprocessing look at. Raises Rejected if the model finds no transform
    for it, or a step cannot take it.
    """
    contract = model.contract
    steps = steps_of(contract.steps)
    view, found = plan_steps(view_of(slide, steps, check=check), steps)
    facts = facts.model_copy(update={"step_facts": found})

    def pieces() -> Iterator[tuple[Pixels, Box]]:
        for box in view.boxes():
            yield to_channels(to_rgb(view.read(box)), contract.channels), box

    def look() -> Pixels:
        frame = view.frame
        return to_rgb(read_sample(view.read, frame.height, frame.width, file_tile=frame.tile))

    preparation = Preparation.of((pixels for pixels, _ in pieces()), contract, look=look)
    facts = facts.remember(preparation)
    if contract.warp is None:
        return facts
    mean = AreaMean(view.frame.height, view.frame.width, side=contract.warp.overview, channels=contract.channels)
    for pixels, box in pieces():
        mean.add(preparation.apply(pixels), box)
    predictor.ensure_loaded(model)
    theta = predictor.localise(model, mean.result())
    return facts.model_copy(update={"theta": theta.tolist()})


def find_source(slide: Slide, facts: ImageFacts, contract: TilingContract, *, check: Check) -> Read:
    """A reader of boxes inside the image, in the size that the steps give it: (h, w, tile channels)."""
    preparation, steps = facts.preparation(contract), steps_of(contract.steps)
    view = apply_steps(view_of(slide, steps, check=check), steps, facts.step_facts)

    def read(box: Box) -> Pixels:
        return preparation.apply(to_channels(to_rgb(view.read(box)), contract.channels))

    if contract.warp is None:
        return read
    theta = np.array(facts.theta, dtype=np.float32)

    def read_enriched(box: Box) -> Pixels:
        warped = read_warped(read, theta, box, height=view.frame.height, width=view.frame.width)
        return np.concatenate([read(box), warped], axis=2)

    return read_enriched
