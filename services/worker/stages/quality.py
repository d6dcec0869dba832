"""Whether an image can be relied on: measured where it is read, judged by what its model learnt from."""

from services.worker.stages.facts import ImageFacts
from services.worker.stages.source import Check
from services.worker.stages.views import steps_of, view_of
from shared.imaging.flags import Confidence, find_flags
from shared.imaging.normalisation import to_channels, to_rgb
from shared.imaging.quality import Features, measure_features
from shared.imaging.steps.views import apply_steps
from shared.imaging.tiling import Box, Pixels
from shared.schemas.contracts import TilingContract
from shared.slides import Slide
from shared.tables.base import Json


def measure_image(slide: Slide, facts: ImageFacts, contract: TilingContract, *, check: Check) -> Features:
    """The features of an image as the trainer measured those that the model learnt from.

    After the contract's steps, before the model's own preparation; of a slide whose bare glass is left out, where
    something is.
    """
    steps = steps_of(contract.steps)
    view = apply_steps(view_of(slide, steps, check=check), steps, facts.step_facts)

    def read(box: Box) -> Pixels:
        check()
        return to_channels(to_rgb(view.read(box)), contract.channels)

    wanted = None if facts.tissue is None else facts.is_predicted
    return measure_features(read, facts.height, facts.width, is_wanted=wanted)


def judge_image(features: Features, confidence: Confidence, contract: TilingContract, *, name: str) -> Json:
    """Features and flags, for the row of the image called `name`."""
    return find_flags(features, confidence, contract.familiar, name).as_json()
