"""PREDICT: the pixels of a block in, its probabilities out."""

import numpy as np

from services.worker.context import Context
from services.worker.predictor import ServedModel
from services.worker.stages.facts import ImageFacts, probability_map
from services.worker.stages.plan import probability_artifact
from services.worker.stages.source import find_source
from shared.domain.blocks import Outcome
from shared.execution import Work
from shared.imaging.tiling import Box, Pixels, Tile, mirror_read, plan_tiles
from shared.stopwatch import Stopwatch


def predict(context: Context, work: Work) -> Outcome:
    """The same block always writes the same bytes under the same key, so doing it twice is harmless."""
    image = work.image
    facts, block = ImageFacts.of(image), Box(*work.claim.block.spec["box"])
    model = context.find_model(work.claim.job)
    clock = Stopwatch()
    tiles = plan_tiles(block, core=facts.core, halo=model.contract.halo)
    with clock.step("read"):
        slide = context.staging.open(image)
        seen = _cover(tiles)
        source = find_source(slide, facts, model.contract, check=work.check)
        pixels = mirror_read(source, seen, height=facts.height, width=facts.width)
    with clock.step("predict"):
        context.predictor.ensure_loaded(model)
        planes = _predict_tiles(context, work, model, tiles, pixels=pixels, origin=seen)
    work.check()  # whoever lost the block must not write over its successor's result
    with clock.step("write"):
        key, body = probability_map(model.contract, facts).encode(block, planes)
        artifact = probability_artifact(context, image, key, body)
    result = {"seconds": clock.seconds, "tiles": len(tiles), "pixels": block.height * block.width}
    return Outcome(result=result, artifacts=[artifact])


def _predict_tiles(
    context: Context, work: Work, model: ServedModel, tiles: list[Tile], *, pixels: Pixels, origin: Box
) -> Pixels:
    """Probabilities (planes, H, W) of the block that the tiles cover. `pixels` begin at the corner of `origin`."""

    def read(tile: Tile) -> Pixels:
        work.check()
        return np.ascontiguousarray(pixels[tile.read.move(-origin.top, -origin.left).slices()])

    block = _bounds([tile.write for tile in tiles])
    planes = np.empty((model.contract.planes, block.height, block.width), dtype=np.uint8)
    for tile, answer in context.predictor.predict_each(model, tiles, read):
        place = tile.write.move(-block.top, -block.left)
        planes[:, *place.slices()] = answer[:, : place.height, : place.width]
    return planes


def _cover(tiles: list[Tile]) -> Box:
    return _bounds([tile.read for tile in tiles])


def _bounds(boxes: list[Box]) -> Box:
    """The smallest box that holds all of them."""
    return Box(
        min(box.top for box in boxes),
        min(box.left for box in boxes),
        max(box.bottom for box in boxes),
        max(box.right for box in boxes),
    )
