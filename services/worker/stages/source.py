"""What the tiles of an image are cut from: its pixels, prepared as its model asks, and perhaps their warped selves."""

from collections.abc import Callable, Iterator

import numpy as np

from services.worker.predictor import Predictor, ServedModel
from services.worker.stages.facts import ImageFacts
from shared.imaging.normalisation import to_channels
from shared.imaging.preparation import Preparation
from shared.imaging.sampling import read_sample
from shared.imaging.tiling import Box, Pixels
from shared.imaging.warping import AreaMean, read_warped
from shared.schemas.contracts import TilingContract
from shared.slides import Slide

Check = Callable[[], None]  # raises if the work should stop
Read = Callable[[Box], Pixels]


def look_over(slide: Slide, facts: ImageFacts, model: ServedModel, *, predictor: Predictor, check: Check) -> ImageFacts:
    """The facts with what takes the whole image to know, if the model asks for it.

    Only what is asked for is read: a sample for the stains, the image piece by piece once for its histogram and once
    for its overview. Raises Rejected if the model finds no transform for it.
    """
    contract = model.contract

    def read_checked(box: Box) -> Pixels:
        check()
        return slide.read(box)

    def pieces() -> Iterator[tuple[Pixels, Box]]:
        for box in slide.levels[0].pieces():
            yield to_channels(read_checked(box), contract.channels), box

    def look() -> Pixels:
        return read_sample(read_checked, slide.height, slide.width, file_tile=slide.levels[0].tile)

    preparation = Preparation.of((pixels for pixels, _ in pieces()), contract, look=look)
    facts = facts.remember(preparation)
    if contract.warp is None:
        return facts
    mean = AreaMean(slide.height, slide.width, side=contract.warp.overview, channels=contract.channels)
    for pixels, box in pieces():
        mean.add(preparation.apply(pixels), box)
    predictor.ensure_loaded(model)
    theta = predictor.localise(model, mean.result())
    return facts.model_copy(update={"theta": theta.tolist()})


def find_source(slide: Slide, facts: ImageFacts, contract: TilingContract, *, check: Check) -> Read:
    """A reader of boxes inside the image: (box.height, box.width, tile channels)."""
    preparation = facts.preparation(contract)

    def read(box: Box) -> Pixels:
        check()
        return preparation.apply(to_channels(slide.read(box), contract.channels))

    if contract.warp is None:
        return read
    theta = np.array(facts.theta, dtype=np.float32)

    def read_enriched(box: Box) -> Pixels:
        warped = read_warped(read, theta, box, height=slide.height, width=slide.width)
        return np.concatenate([read(box), warped], axis=2)

    return read_enriched
