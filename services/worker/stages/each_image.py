"""Work on the images of a block, each by itself: those of a bundle some at a time, or the one of its own."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

from services.worker.context import Context
from services.worker.lookahead import map_ahead
from shared.domain import manifests
from shared.domain.blocks import ImageOutcome, Outcome
from shared.errors import Draining, Missing, Rejected, Unavailable
from shared.execution import Work, explain
from shared.stopwatch import Stopwatch
from shared.tables import JobImage

THREADS = 4  # they mostly wait for the store
AHEAD = 8  # images that are worked on before the first of them is asked for

EndImage = Callable[[JobImage], ImageOutcome]


def end_each(context: Context, work: Work, end: EndImage, *, begin: Callable[[Sequence[JobImage]], None]) -> Outcome:
    """The outcome of every image of the block. What is wrong with one is its outcome, not the block's.

    `begin` is called once, with all of them. Of a bundle, images that the store does not give, and the rest if this
    process is to end, are left behind.
    """
    if work.claim.image is not None:
        return Outcome(images=[_end(end, work.claim.image)])
    clock = Stopwatch()
    images = context.find_images(work.claim.job, work.claim.block.spec["images"])
    begin(images)
    with clock.step("read, check and write"):
        ended = gather_ended(work, _walk(work, images, end), of=len(images))
    return Outcome(result={"seconds": clock.seconds, "images": len(ended)}, images=ended)


def gather_ended(work: Work, outcomes: Iterable[ImageOutcome | Unavailable], *, of: int) -> list[ImageOutcome]:
    """The images of a bundle that ended, as they come; noted as progress.

    Raises what kept them all from it: the end of this process, or the store that is away.
    """
    ended: list[ImageOutcome] = []
    away: list[Unavailable] = []
    with suppress(Draining):
        for outcome in outcomes:
            if isinstance(outcome, Unavailable):
                away.append(outcome)
                continue
            ended.append(outcome)
            work.note({"images": len(ended), "of": of})
    if not ended:
        work.check()
        if away:
            raise away[0]
    return ended


def _walk(work: Work, images: Sequence[JobImage], end: EndImage) -> Iterator[ImageOutcome | Unavailable]:
    def end_one(image: JobImage) -> ImageOutcome | Unavailable:
        work.check()
        try:
            return _end(end, image)
        except Unavailable as error:
            return error

    with ThreadPoolExecutor(THREADS, "image") as pool, closing(map_ahead(pool, end_one, images, ahead=AHEAD)) as made:
        yield from made


def _end(end: EndImage, image: JobImage) -> ImageOutcome:
    try:
        return end(image)
    except Missing as error:  # no fault of the image: once its bytes are there, the same order is not the same any more
        return ImageOutcome(image.id, error={**explain(error), "type": "missing"})
    except Rejected as error:
        return ImageOutcome(image.id, error=explain(error))


def walk_images(context: Context, work: Work) -> Iterator[JobImage]:
    """All images of the block's job, in their order, few of them held at a time."""
    with context.sessions() as session:
        for image in manifests.walk_images(session, work.claim.job):
            work.check()
            yield image
