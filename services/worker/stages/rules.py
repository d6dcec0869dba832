"""What the objects of an image are told apart by, as the algorithm takes it."""

from shared.imaging.objects.rules import ObjectRules
from shared.schemas.jobs import SegmentParameters


def rules_of(parameters: SegmentParameters) -> ObjectRules:
    """The rules of a job."""
    return ObjectRules(threshold=parameters.threshold, **parameters.objects.model_dump())
