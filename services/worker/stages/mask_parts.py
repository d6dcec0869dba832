"""The mask of a large image, strung together from what its blocks have made of it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from services.worker.context import Context
from services.worker.lookahead import map_ahead
from services.worker.stages.facts import ImageFacts
from services.worker.stages.predict import part_name
from services.worker.stages.shards import Shards
from services.worker.writers.mask import order_tiles, write_mask
from services.worker.writers.mask_part import MaskPart
from shared.domain import blocks
from shared.errors import NotFound, Unavailable
from shared.execution import Work
from shared.imaging.masks import close_box, find_classes
from shared.imaging.tiling import Box, Pixels
from shared.schemas.jobs import SegmentParameters
from shared.storage import Stored, image_key
from shared.tables.jobs import Stage

AHEAD = 8  # blocks that are read back while one is used
FILE = "mask.tif"


@dataclass(frozen=True)
class MaskParts:
    """Where the parts of the mask come from: the store, or the probabilities if the mask is to be closed."""

    context: Context
    work: Work
    facts: ImageFacts
    shards: Shards

    def each(self) -> Iterator[tuple[Box, MaskPart]]:
        """Every block, row by row, with its part; each block's shard is verified on the way."""
        if self._parameters.closing or self.facts.own is not None:
            for block in self.facts.own_blocks():
                self.work.check()
                yield block, self._find(block)
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
        threshold = self._parameters.threshold
        return MaskPart.of(find_classes(self.shards.read(block), threshold=threshold))

    def _find_digests(self) -> dict[str, str]:
        """Name → sha256, of the parts that were written; the version before wrote others, and told no shards."""
        with self.context.sessions() as session:
            done = blocks.results_of_image(session, self.work.image, Stage.PREDICT)
        written = [(Box(*spec["box"]), result) for spec, result in done if {"part", "shards"} <= result.keys()]
        return {part_name(box): result["part"] for box, result in written}

    def _find(self, block: Box) -> MaskPart:
        """The part of a block of the image itself, closed together with all around it that the closing can reach."""
        return MaskPart.of(read_mask(self.shards, self.facts, self._parameters, block))

    @cached_property
    def _parameters(self) -> SegmentParameters:
        return SegmentParameters.of(self.work.claim.job.spec, self.work.image.entry)


def read_mask(shards: Shards, facts: ImageFacts, parameters: SegmentParameters, box: Box) -> Pixels:
    """The classes (h, w) of a box of the image itself, as its mask shows them."""
    read = partial(shards.read_classes, threshold=parameters.threshold)

    def close(around: Box) -> Pixels:
        if not parameters.closing:
            return read(around)
        return close_box(read, around, parameters.closing, height=facts.height, width=facts.width)

    return facts.read_own(close, box)


def write_parts(parts: MaskParts, folder: Path, *, is_wanted: bool) -> tuple[Stored | None, int]:
    """The mask as it was stored, if it is wanted, and how many pixels are foreground. Every shard is verified."""
    facts, image, foreground = parts.facts, parts.work.image, 0

    def each() -> Iterator[tuple[Box, list[bytes]]]:
        nonlocal foreground
        for block, part in parts.each():
            foreground += part.foreground
            yield block, part.tiles

    if not is_wanted:
        for _ in each():
            pass
        return None, foreground
    height, width = facts.size
    path = folder / FILE
    write_mask(path, order_tiles(each()), height=height, width=width, mpp=facts.mask_mpp)
    parts.work.check()
    return parts.context.storage.put_file(image_key(image.job_id, image.id, FILE), path), foreground
