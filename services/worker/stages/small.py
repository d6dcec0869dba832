"""What becomes of a small image once it is predicted: the same files as of a large one, made in memory."""

import io
from dataclasses import dataclass

import numpy as np

from services.worker.context import Context
from services.worker.predictor import ServedModel
from services.worker.stages.assemble import mask_artifacts
from services.worker.stages.facts import ImageFacts, probability_map
from services.worker.stages.plan import probability_artifact
from services.worker.writers.mask import encode_tiles, write_mask
from services.worker.writers.overlay import draw_overlay
from shared.domain.blocks import ImageOutcome
from shared.execution import Work
from shared.imaging.masks import close_mask, find_classes
from shared.imaging.tiling import Box, Pixels
from shared.schemas.jobs import SegmentParameters
from shared.storage import image_key
from shared.tables import JobImage


@dataclass(frozen=True)
class SmallImage:
    """An image of one tile."""

    image: JobImage
    facts: ImageFacts
    pixels: Pixels  # (H, W, 3), as it was read
    tile: Pixels  # (core + 2 halo, core + 2 halo, tile channels), as the model wants it


def write_small(context: Context, work: Work, model: ServedModel, small: SmallImage, answer: Pixels) -> ImageOutcome:
    """Store map, mask and overlay of an image whose tile was answered with `answer` (planes, core, core)."""
    image, facts, parameters = small.image, small.facts, SegmentParameters.of(work.claim.job.spec)
    planes = answer[:, : facts.height, : facts.width]
    predicted = close_mask(find_classes(planes, threshold=parameters.threshold), parameters.closing)
    height, width = facts.size
    classes = facts.read_own(lambda box: predicted[box.slices()], Box(0, 0, height, width))
    probability = probability_map(model.contract, facts)
    shard, body = probability.encode(Box(0, 0, facts.height, facts.width), planes)
    content = {**probability.describe(), shard: body}
    mask = io.BytesIO()
    write_mask(mask, encode_tiles(classes), height=height, width=width, mpp=facts.mask_mpp)
    png = draw_overlay(small.pixels, classes)
    work.check()  # whoever lost the block must not write over its successor's result
    artifacts = [probability_artifact(context, image, key, part) for key, part in sorted(content.items())]
    stored = context.storage.put(image_key(image.job_id, image.id, "mask.tif"), mask.getvalue())
    overlay = context.storage.put(image_key(image.job_id, image.id, "overlay.png"), png)
    found = {"foreground_fraction": round(np.count_nonzero(classes) / classes.size, 6), "seams": None}
    return ImageOutcome(
        image.id,
        facts=facts.model_dump(mode="json"),
        result={**found, "skipped_tiles": 0},
        artifacts=[*artifacts, *mask_artifacts(image, stored, overlay)],
    )
