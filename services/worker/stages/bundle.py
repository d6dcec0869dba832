"""BUNDLE: many small images at once, from their pixels to their masks.

Each would fill a fraction of a second by itself, less than it takes to hand out its blocks. So they share one block,
and the tiles of several make one batch.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from services.worker.context import Context
from services.worker.lookahead import map_ahead
from services.worker.predictor import ServedModel
from services.worker.stages.plan import find_cores, find_covering, lay_out
from services.worker.stages.small import SmallImage, write_small
from services.worker.stages.source import find_source, look_over
from shared.domain.blocks import ImageOutcome, Outcome
from shared.errors import Rejected
from shared.execution import Work, explain
from shared.imaging.tiling import Box, Pixels, mirror_read
from shared.schemas.jobs import SegmentParameters
from shared.stopwatch import Stopwatch
from shared.tables import JobImage

THREADS = 4  # that read and write: they mostly wait for the store
AHEAD = 16  # images that are read, and written, while others are predicted
SMALL = 1024  # px; larger ones would make a bundle need much memory
LARGEST_BATCH = 16  # tiles

Read = SmallImage | ImageOutcome | None  # None: too large for a bundle


@dataclass(frozen=True)
class Batch:
    """Small images whose tiles are of one size."""

    images: list[SmallImage]
    size: int  # tiles of a full batch: an engine is made ready for one size, the rest of it stays empty

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is sent, (N, H, W, C)."""
        return self.size, *self.images[0].tile.shape

    def fill(self, out: Pixels) -> None:
        """Write the tiles to `out`, which is of that shape."""
        for index, image in enumerate(self.images):
            out[index] = image.tile
        out[len(self.images) :] = 0


def bundle(context: Context, work: Work) -> Outcome:
    """Images that turn out to be large, or to need more than one tile, are left behind: they are planned one by one."""
    job, clock = work.claim.job, Stopwatch()
    model, views = context.find_model(job), SegmentParameters.of(job.spec).views
    images = context.find_images(job, work.claim.block.spec["images"])
    ended: list[ImageOutcome] = []
    with clock.step("predict"), ThreadPoolExecutor(THREADS, "read") as reading, ThreadPoolExecutor(THREADS) as writing:
        context.predictor.ensure_loaded(model)
        read = map_ahead(reading, lambda image: _read(context, work, model, image), images, ahead=AHEAD)
        batch_pixels = context.settings.batch_pixels if model.contract.takes_batches else 0
        batches = make_batches(_keep(read, ended), batch_pixels)
        answers = context.predictor.predict_each(model, batches, lambda batch: batch.shape, Batch.fill, views=views)
        pairs = (pair for batch, answer in answers for pair in zip(batch.images, answer, strict=False))
        for outcome in map_ahead(writing, lambda pair: write_small(context, job, model, *pair), pairs, ahead=AHEAD):
            work.check()
            ended.append(outcome)
            work.note({"images": len(ended), "of": len(images)})
    return Outcome(result={"seconds": clock.seconds, "images": len(ended)}, images=ended)


def _read(context: Context, work: Work, model: ServedModel, image: JobImage) -> Read:
    """The image's one tile; or why there is none, or None if there are more."""
    work.check()
    contract = model.contract
    try:
        with context.staging.borrow(image) as slide:
            cores = find_covering(find_cores(contract, context.settings), slide)
            if not cores or max(slide.height, slide.width) > SMALL:
                return None
            facts = lay_out(slide, contract, context.settings, cores)
            facts = look_over(slide, facts, model, predictor=context.predictor, check=work.check)
            seen = Box(0, 0, facts.core, facts.core).grow(contract.halo)
            source = find_source(slide, facts, contract, check=work.check)
            tile = mirror_read(source, seen, height=facts.height, width=facts.width)
            return SmallImage(image, facts, slide.read(Box(0, 0, slide.height, slide.width)), tile)
    except Rejected as error:
        return ImageOutcome(image.id, error=explain(error))


def _keep(read: Iterable[Read], ended: list[ImageOutcome]) -> Iterator[SmallImage]:
    """What can be predicted; failed images are over."""
    for found in read:
        if isinstance(found, SmallImage):
            yield found
        elif found is not None:
            ended.append(found)


def make_batches(images: Iterable[SmallImage], batch_pixels: int) -> Iterator[Batch]:
    """As they come, a batch of each size of tile; what is left makes batches that are not full."""
    waiting: dict[int, list[SmallImage]] = defaultdict(list)
    for image in images:
        side = image.tile.shape[0]
        size = min(max(batch_pixels // side**2, 1), LARGEST_BATCH)
        waiting[side].append(image)
        if len(waiting[side]) == size:
            yield Batch(waiting.pop(side), size)
    for side, rest in waiting.items():
        yield Batch(rest, min(max(batch_pixels // side**2, 1), LARGEST_BATCH))
