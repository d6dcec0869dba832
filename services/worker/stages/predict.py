"""PREDICT: the pixels of a block in, its probabilities out, and its part of the mask."""

from collections.abc import Iterator

import numpy as np

from services.worker.context import Context
from services.worker.predictor import ServedModel
from services.worker.stages.facts import ImageFacts, probability_map
from services.worker.stages.plan import probability_artifact
from services.worker.stages.source import find_source
from services.worker.writers.mask_part import MaskPart
from services.worker.writers.probability import ProbabilityMap
from shared.domain.blocks import NewArtifact, Outcome
from shared.execution import Work
from shared.imaging.flags import Confidence
from shared.imaging.masks import find_classes
from shared.imaging.tiling import Box, Pixels, Tile, mirror_read
from shared.schemas.jobs import SegmentParameters
from shared.stopwatch import Stopwatch
from shared.storage import image_key
from shared.tables import JobImage
from shared.tables.base import Json


def predict(context: Context, work: Work) -> Outcome:
    """The same block always writes the same bytes under the same keys, so doing it twice is harmless."""
    image = work.image
    facts, block = ImageFacts.of(image), Box(*work.claim.block.spec["box"])
    parameters = SegmentParameters.of(work.claim.job.spec, work.image.entry)
    model = context.find_model(work.claim.job, work.image)
    clock = Stopwatch()
    tiles = facts.find_tiles(block, halo=model.contract.halo)
    with clock.step("read"):
        slide = context.staging.open(image)
        seen = _bounds([tile.read for tile in tiles])
        source = find_source(slide, facts, model.contract, check=work.check)
        pixels = mirror_read(source, seen, height=facts.height, width=facts.width)
    with clock.step("predict"):
        context.predictor.ensure_loaded(model)
        planes = np.zeros((model.contract.planes, block.height, block.width), dtype=np.uint8)
        for tile, answer in _predict_tiles(context, work, model, tiles, pixels=pixels, origin=seen):
            place = tile.write.move(-block.top, -block.left)
            planes[:, *place.slices()] = answer[:, : place.height, : place.width]
    work.check()  # whoever lost the block must not write over its successor's result
    confidence = Confidence()
    confidence.add(planes)
    result: Json = {
        "tiles": len(tiles),
        "pixels": block.height * block.width,
        "confidence": [confidence.sure, confidence.unsure],
    }
    with clock.step("write"):
        artifacts, result["shards"] = _store_levels(
            context, image, probability_map(model.contract, facts), block, planes
        )
        is_by_block = not parameters.closing and facts.own is None  # else the mask looks across blocks: it comes last
        if is_by_block:
            part = MaskPart.of(find_classes(planes, threshold=parameters.threshold))
            stored = context.storage.put(image_key(image.job_id, image.id, part_name(block)), part.to_bytes())
            result["part"] = stored.sha256
    kept = artifacts if "ome_zarr" in parameters.outputs else []  # else they are needed until the job is over
    return Outcome(result={"seconds": clock.seconds, **result}, artifacts=kept)


def _predict_tiles(
    context: Context, work: Work, model: ServedModel, tiles: list[Tile], *, pixels: Pixels, origin: Box
) -> Iterator[tuple[Tile, Pixels]]:
    """Each tile with the probabilities (planes, core, core) of its core. `pixels` begin at the corner of `origin`."""

    def shape(tile: Tile) -> tuple[int, ...]:
        return 1, tile.read.height, tile.read.width, pixels.shape[2]

    def fill(tile: Tile, out: Pixels) -> None:
        work.check()
        out[0] = pixels[tile.read.move(-origin.top, -origin.left).slices()]

    views = SegmentParameters.of(work.claim.job.spec, work.image.entry).views
    for tile, answer in context.predictor.predict_each(model, tiles, shape, fill, views=views):
        yield tile, answer[0]


def part_name(block: Box) -> str:
    """Where a block's part of the mask lies, among the results of its image."""
    return f"mask-parts/{block.top}-{block.left}"


def _store_levels(
    context: Context, image: JobImage, levels: ProbabilityMap, block: Box, planes: Pixels
) -> tuple[list[NewArtifact], list[str]]:
    """The block's shards, one of each level, the finest first; and their hashes."""
    shards = levels.encode_levels(block, planes).items()
    artifacts = [probability_artifact(context, image, key, body) for key, body in shards]
    return artifacts, [artifact.stored.sha256 for artifact in artifacts]


def _bounds(boxes: list[Box]) -> Box:
    """The smallest box that holds all of them."""
    return Box(
        min(box.top for box in boxes),
        min(box.left for box in boxes),
        max(box.bottom for box in boxes),
        max(box.right for box in boxes),
    )
