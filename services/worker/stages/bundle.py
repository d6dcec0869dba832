"""BUNDLE: many small images at once, from their pixels to their masks.

Each would fill a fraction of a second by itself, less than it takes to hand out its blocks. So they share one block,
and the tiles of several make one batch.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from services.worker.context import Context
from services.worker.lookahead import map_ahead
from services.worker.predictor import ServedModel
from services.worker.settings import WorkerSettings
from services.worker.stages.each_image import gather_ended
from services.worker.stages.plan import find_cores, find_covering, lay_out
from services.worker.stages.quality import measure_image
from services.worker.stages.score import read_truth
from services.worker.stages.small import SmallImage, write_small
from services.worker.stages.source import find_source, look_over
from services.worker.stages.subject import name_apart
from services.worker.stages.views import find_frame
from shared.domain.blocks import ImageOutcome, Outcome
from shared.errors import Rejected, Unavailable
from shared.execution import Work, explain
from shared.imaging.tiling import Box, Pixels, mirror_read
from shared.schemas.contracts import TilingContract
from shared.schemas.jobs import SegmentParameters
from shared.slides import Limits, Slide, TooLarge
from shared.stopwatch import Stopwatch
from shared.tables import JobImage

THREADS = 4  # that read and write: they mostly wait for the store
AHEAD = 16  # images that are read, and written, while others are predicted
SMALL = 1024  # px; larger ones would make a bundle need much memory
MOST_SAMPLES = 16_000_000  # bytes of an image; one of many channels is large, however few pixels it has
LARGEST_BATCH = 16  # tiles


@dataclass(frozen=True)
class Batch:
    """Small images whose tiles are of one size."""

    images: list[SmallImage]
    size: int  # tiles of what is sent; what is missing of them stays empty

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
    """Images that cannot be worked on here are left behind, to be planned one by one.

    These are large ones, those that the store does not give, and the rest if this process is to end.
    """
    job, clock = work.claim.job, Stopwatch()
    images = context.find_images(job, work.claim.block.spec["images"])
    with clock.step("read, predict and write"):
        ended = gather_ended(work, _end_each(context, work, images), of=len(images))
    return Outcome(result={"seconds": clock.seconds, "images": len(ended)}, images=ended)


def _end_each(context: Context, work: Work, images: Sequence[JobImage]) -> Iterator[ImageOutcome | Unavailable]:
    """Each image that is over: read, predicted and written while others are."""
    if not images:  # ended by a try before this one
        return
    model = context.find_model(work.claim.job, images[0])  # a bundle's images are all for one model
    context.predictor.ensure_loaded(model)
    reader = _Reader(context, work, model)
    unread: list[ImageOutcome | Unavailable] = []

    def found() -> Generator[SmallImage, None, None]:
        with ThreadPoolExecutor(THREADS, "read") as pool, closing(map_ahead(pool, reader, images, ahead=AHEAD)) as read:
            for each in read:
                if isinstance(each, SmallImage):
                    yield each
                elif each is not None:
                    unread.append(each)

    def write(predicted: tuple[SmallImage, Pixels]) -> ImageOutcome:
        return write_small(context, work, model, *predicted)

    with (
        closing(found()) as small,
        closing(_predict_each(context, model, small, views=_find_views(work, images[0]))) as predicted,
        ThreadPoolExecutor(THREADS, "write") as pool,
        closing(map_ahead(pool, write, predicted, ahead=AHEAD)) as made,
    ):
        yield from made
    yield from unread


def _find_views(work: Work, image: JobImage) -> int:
    return SegmentParameters.of(work.claim.job.spec, image.entry).views


def _predict_each(
    context: Context, model: ServedModel, images: Iterable[SmallImage], *, views: int
) -> Generator[tuple[SmallImage, Pixels], None, None]:
    """Each with the answer (planes, core, core) to its tile."""
    batches = make_batches(images, find_batch_pixels(model.contract, context.settings))
    asked = context.predictor.predict_each(model, batches, lambda batch: batch.shape, Batch.fill, views=views)
    with closing(asked) as answers:
        for batch, answer in answers:
            yield from zip(batch.images, answer, strict=False)


@dataclass(frozen=True)
class _Reader:
    context: Context
    work: Work
    model: ServedModel

    def __call__(self, image: JobImage) -> SmallImage | ImageOutcome | Unavailable | None:
        """The image's one tile; or why there is none; None if it is larger."""
        self.work.check()
        try:
            with self.context.staging.borrow(image, limits=Limits(side=SMALL)) as slide:
                return self._read(image, slide)
        except TooLarge:
            return None
        except Rejected as error:
            return ImageOutcome(image.id, error=explain(error))
        except Unavailable as error:
            return error

    def _read(self, image: JobImage, slide: Slide) -> SmallImage | None:
        context, contract, check = self.context, self.model.contract, self.work.check
        wants_objects = SegmentParameters.of(self.work.claim.job.spec, image.entry).wants_objects
        if wants_objects and _count_bytes(slide) > MOST_SAMPLES:
            return None
        frame = find_frame(slide, contract.steps, name=image.name)
        cores = find_covering(find_cores(contract, context.settings), frame)
        if not cores:
            return None
        facts = lay_out(slide, frame, contract, context.settings, cores)
        facts = look_over(slide, facts, self.model, predictor=context.predictor, check=check)
        seen = Box(0, 0, facts.core, facts.core).grow(contract.halo)
        source = find_source(slide, facts, contract, check=check)
        tile = mirror_read(source, seen, height=facts.height, width=facts.width)
        whole, is_scored = Box(0, 0, slide.height, slide.width), "mask" in image.entry
        return SmallImage(
            image=image,
            facts=facts,
            pixels=slide.read(whole),
            samples=slide.read_samples(whole) if wants_objects else None,
            channels=name_apart(slide.channels),
            features=measure_image(slide, facts, contract, check=check),
            truth=read_truth(context, image, height=slide.height, width=slide.width) if is_scored else None,
            tile=tile,
        )


def _count_bytes(slide: Slide) -> int:
    """Of all samples."""
    return slide.height * slide.width * len(slide.channels) * np.dtype(slide.dtype).itemsize


def find_batch_pixels(contract: TilingContract, settings: WorkerSettings) -> int:
    """How many pixels the tiles of a batch may have together; none where a model takes tiles one by one."""
    if not contract.takes_batches:
        return 0
    return min(settings.batch_pixels, settings.engine_bytes // (contract.bytes_per_pixel or 1))


def make_batches(images: Iterable[SmallImage], batch_pixels: int) -> Iterator[Batch]:
    """As they come, a batch of each size of tile; what is left of a size makes a smaller one.

    An engine is made ready for each number of tiles that it meets. So what is left is sent in a batch of the usual
    number, if there was one, or else of a power of two.
    """
    waiting: dict[int, list[SmallImage]] = defaultdict(list)
    usual: set[int] = set()
    for image in images:
        side = image.tile.shape[0]
        waiting[side].append(image)
        if len(waiting[side]) == _find_most(side, batch_pixels):
            usual.add(side)
            full = waiting.pop(side)
            yield Batch(full, len(full))
    for side, rest in waiting.items():
        most = _find_most(side, batch_pixels)
        yield Batch(rest, most if side in usual else min(2 ** (len(rest) - 1).bit_length(), most))


def _find_most(side: int, batch_pixels: int) -> int:
    """Tiles of that side in a batch, px."""
    return min(max(batch_pixels // side**2, 1), LARGEST_BATCH)
