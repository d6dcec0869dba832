"""What the objects of an image are told apart by, as the algorithm takes it."""

from services.worker.stages.facts import ImageFacts
from shared.imaging.objects.rules import ObjectRules
from shared.schemas.jobs import SegmentParameters

WIDEST = 64  # px, of a closing


def rules_of(parameters: SegmentParameters, facts: ImageFacts) -> ObjectRules:
    """The rules for an image, whose objects are found in its own pixels.

    The closing is the mask's, which is done in the pixels that the model saw.
    """
    height, width = facts.size
    closing = round(parameters.objects.closing * max(height / facts.height, width / facts.width))
    return ObjectRules(
        threshold=parameters.threshold, **{**parameters.objects.model_dump(), "closing": min(closing, WIDEST)}
    )
