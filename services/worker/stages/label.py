"""LABEL: the objects of a region, from its probabilities and those around it."""

from services.worker.context import Context
from services.worker.stages.facts import ImageFacts
from services.worker.stages.object_parts import ObjectParts, Part
from services.worker.stages.rules import rules_of
from services.worker.stages.shards import Shards
from shared.domain.blocks import Outcome
from shared.execution import Work
from shared.imaging.objects.blocks import label_block
from shared.imaging.objects.pieces import measure_pieces
from shared.imaging.tiling import Box, Pixels
from shared.schemas.jobs import SegmentParameters
from shared.stopwatch import Stopwatch


def label(context: Context, work: Work) -> Outcome:
    """Objects that go on in other regions are joined when the image is assembled."""
    image, box = work.image, Box(*work.claim.block.spec["box"])
    facts, parameters = ImageFacts.of(image), SegmentParameters.of(work.claim.job.spec, image.entry)
    model = context.find_model(work.claim.job, image)
    height, width = facts.size
    shards, clock = Shards(context, image, facts, model.contract), Stopwatch()

    def read(around: Box) -> Pixels:
        work.check()
        return facts.read_own_planes(shards.read, around)

    with clock.step("read probabilities and label"):
        found = label_block(read, box, height=height, width=width, rules=rules_of(parameters, facts))
    work.check()
    with clock.step("read image"):
        channels = context.staging.open(image).read_samples(box)
    with clock.step("measure"):
        pieces = measure_pieces(found.labels, found.classes, found.planes, channels, box)
    work.check()  # whoever lost the block must not write over its successor's result
    with clock.step("write"):
        digests = ObjectParts(context, image).put(box, Part(found.labels, found.seams, pieces))
    return Outcome(result={"seconds": clock.seconds, "pieces": len(pieces), **digests})
