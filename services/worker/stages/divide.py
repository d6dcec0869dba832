"""DIVIDE: once an image is predicted, name the regions whose objects are looked for."""

from services.worker.context import Context
from services.worker.stages.facts import ImageFacts
from services.worker.stages.rules import rules_of
from shared.domain.blocks import NewBlock, Outcome
from shared.execution import Work
from shared.imaging.objects.blocks import reach
from shared.imaging.tiling import Box
from shared.schemas.jobs import SegmentParameters
from shared.tables.jobs import Stage


def divide(context: Context, work: Work) -> Outcome:  # noqa: ARG001  # as of every stage
    """Regions where nothing was predicted hold no objects, unless some beside them grow into them."""
    image = work.image
    facts, parameters = ImageFacts.of(image), SegmentParameters.of(work.claim.job.spec, image.entry)
    if not parameters.wants_objects:
        return Outcome()
    margin = reach(rules_of(parameters, facts))
    return Outcome(
        blocks=[
            NewBlock(Stage.LABEL, ordinal, {"box": [box.top, box.left, box.bottom, box.right]})
            for ordinal, box in enumerate(facts.own_blocks())
            if is_predicted_around(facts, box, margin)
        ]
    )


def is_predicted_around(facts: ImageFacts, box: Box, margin: int) -> bool:
    """Whether anything within `margin` px of a box of the image itself was predicted."""
    height, width = facts.size
    around = box.grow(margin).intersect(Box(0, 0, height, width))
    return any(facts.find_tiles(block, halo=0) for block in facts.blocks_at(facts.find_shown(around)))
