"""What an image's row keeps about its objects."""

import math

from services.worker.stages.facts import ImageFacts
from shared.imaging.objects.summary import ObjectSummary, find_density
from shared.imaging.tiling import Box
from shared.tables.base import Json


def describe_objects(summary: ObjectSummary, facts: ImageFacts) -> Json:
    """The summary with densities: per mm² of the image, and of what was predicted where bare glass was left out."""
    whole = math.prod(facts.size)
    looked_at = round(whole * find_predicted(facts))
    return {
        **summary.as_json(),
        "area_px2": whole,
        "predicted_px2": looked_at,
        "per_mm2": find_density(summary.count, whole, facts.mask_mpp),
        "per_mm2_predicted": find_density(summary.count, looked_at, facts.mask_mpp),
    }


def find_predicted(facts: ImageFacts) -> float:
    """Share of the image's pixels that lie in tiles which were predicted."""
    if not facts.skipped:
        return 1.0
    wanted = facts.find_tiles(Box(0, 0, facts.height, facts.width), halo=0)
    pixels = sum(tile.write.height * tile.write.width for tile in wanted)
    return pixels / (facts.height * facts.width)
