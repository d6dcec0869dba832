"""ASSEMBLE: verify that every block of an image is there, and make the mask and the overlay of it."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from services.worker.context import Context
from services.worker.lookahead import map_ahead
from services.worker.stages.facts import ImageFacts
from services.worker.stages.predict import make_part, part_name
from services.worker.stages.seams import measure_seams
from services.worker.stages.shards import Shards
from services.worker.writers.mask import order_tiles, write_mask
from services.worker.writers.mask_part import MaskPart
from services.worker.writers.overlay import SIDE, OverviewGrid, draw_overlay
from shared.domain import blocks
from shared.domain.blocks import ImageOutcome, NewArtifact, Outcome
from shared.errors import NotFound, Unavailable
from shared.execution import Work
from shared.imaging.masks import close_box, find_classes
from shared.imaging.tiling import Box, Pixels
from shared.schemas.jobs import SegmentParameters
from shared.slides import Slide
from shared.stopwatch import Stopwatch
from shared.storage import Stored, image_key
from shared.tables import JobImage
from shared.tables.jobs import Stage

AHEAD = 8  # blocks that are read back while one is used


def assemble(context: Context, work: Work) -> Outcome:
    """Reads each block's object back and compares its hash with the one committed, before anyone may call it done."""
    image, model = work.image, context.find_model(work.claim.job)
    facts, clock = ImageFacts.of(image), Stopwatch()
    slide = context.staging.open(image)
    shards = Shards(context, image, facts, model.contract)
    with ThreadPoolExecutor(2, thread_name_prefix="assemble") as pool:
        # The processor's cores are idle otherwise: this is the last block of its image.
        overview = pool.submit(slide.overview, SIDE, work.check)
        seams = pool.submit(measure_seams, context, work, facts, slide)
        with clock.step("verify and write"):
            mask, shown, foreground = _write_mask(context, work, _Parts(context, work, facts, shards, slide))
        with clock.step("draw"):
            png = draw_overlay(overview.result(), shown)
            overlay = context.storage.put(image_key(image.job_id, image.id, "overlay.png"), png)
        with clock.step("measure seams"):
            measured = seams.result()
    found = {
        "foreground_fraction": round(foreground / math.prod(facts.size), 6),
        "seams": measured,
        "skipped_tiles": facts.skipped,
    }
    ended = ImageOutcome(image.id, result=found, artifacts=mask_artifacts(image, mask, overlay))
    return Outcome(result={"seconds": clock.seconds, **found}, images=[ended])


def mask_artifacts(image: JobImage, mask: Stored, overlay: Stored) -> list[NewArtifact]:
    """What a user takes home of an image besides its map."""
    return [
        NewArtifact("mask", f"{image.name}.mask.tif", "image/tiff", mask),
        NewArtifact("overlay", f"{image.name}.overlay.png", "image/png", overlay),
    ]


@dataclass(frozen=True)
class _Parts:
    """Where the parts of the mask come from: the store, or the probabilities if the mask is to be closed."""

    context: Context
    work: Work
    facts: ImageFacts
    shards: Shards
    slide: Slide

    def each(self) -> Iterator[tuple[Box, MaskPart]]:
        """Every block, row by row, with its part; each block's shard is verified on the way."""
        closing = SegmentParameters.of(self.work.claim.job.spec).closing
        if closing or self.facts.own is not None:
            for block in self.facts.own_blocks():
                self.work.check()
                yield block, self._find(block, closing)
            return
        digests = self._find_digests()
        with ThreadPoolExecutor(AHEAD, thread_name_prefix="verify") as pool:
            parts = map_ahead(pool, lambda block: self._fetch(block, digests), self.facts.blocks(), ahead=AHEAD)
            yield from zip(self.facts.blocks(), parts, strict=True)

    def _fetch(self, block: Box, digests: dict[str, str]) -> MaskPart:
        self.work.check()
        self.shards.verify(block)
        name = part_name(block)
        if name in digests:
            key = image_key(self.work.image.job_id, self.work.image.id, name)
            with suppress(NotFound, Unavailable):  # lost, or not what it was: it follows from the shard
                return MaskPart.from_bytes(self.context.storage.get_verified(key, sha256=digests[name]))
        threshold = SegmentParameters.of(self.work.claim.job.spec).threshold
        return make_part(self.slide, self.facts, block, find_classes(self.shards.read(block), threshold=threshold))

    def _find_digests(self) -> dict[str, str]:
        """Name → sha256, of the parts that were written."""
        with self.context.sessions() as session:
            done = blocks.results_of_image(session, self.work.image, Stage.PREDICT)
        return {part_name(Box(*spec["box"])): result["part"] for spec, result in done if "part" in result}

    def _find(self, block: Box, radius: int) -> MaskPart:
        """The part of a block of the image itself, closed together with all around it that the closing can reach."""
        threshold = SegmentParameters.of(self.work.claim.job.spec).threshold
        read, facts = partial(self.shards.read_classes, threshold=threshold), self.facts

        def close(box: Box) -> Pixels:
            return close_box(read, box, radius, height=facts.height, width=facts.width) if radius else read(box)

        return make_part(self.slide, facts, block, facts.read_own(close, block))


def _write_mask(context: Context, work: Work, parts: _Parts) -> tuple[Stored, Pixels, int]:
    """The mask as it was stored, the classes that the overview shows, and how many pixels are foreground."""
    facts, image = parts.facts, work.image
    height, width = facts.size
    size = parts.slide.overview_size(SIDE)
    grid, shown = OverviewGrid(full=facts.size, overview=size), np.zeros(size, dtype=np.uint8)
    foreground = 0

    def each() -> Iterator[tuple[Box, list[bytes]]]:
        nonlocal foreground
        for block, part in parts.each():
            shown[grid.locate(block)] = part.shown
            foreground += part.foreground
            yield block, part.tiles

    with TemporaryDirectory(dir=context.settings.cache_dir) as folder:
        path = Path(folder) / "mask.tif"
        write_mask(path, order_tiles(each()), height=height, width=width, mpp=facts.mask_mpp)
        work.check()
        return context.storage.put_file(image_key(image.job_id, image.id, "mask.tif"), path), shown, foreground
