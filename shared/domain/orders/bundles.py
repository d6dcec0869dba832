"""Small images share a block: which ones."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from shared.domain import stages
from shared.tables import Job, JobImage
from shared.tables.jobs import Stage

SMALL_BYTES = 4 * 2**20  # files up to this size are taken for small images, and go in bundles; who opens them will see
BUNDLE_IMAGES = 256  # in a bundle, at most
BUNDLE_BYTES = 32 * 2**20  # the same; together, some seconds of work
LEAST_BUNDLE = 16  # fewer are not worth sharing between workers
BUNDLES = 8  # that a job of many images is cut into at least: there may be as many workers


def add_blocks(
    session: Session, job: Job, images: Sequence[JobImage], *, together: Stage, alone: Stage, views: int = 1
) -> None:
    """The first blocks of a job's images: the small ones in bundles, each large one by itself.

    `views`: how often each image is worked on; more make a bundle smaller.
    """
    small = [row for row in images if row.bytes <= SMALL_BYTES]
    for number, bundle in enumerate(cut(small, views=views)):
        stages.add_block(session, job, None, together, ordinal=number, spec={"images": bundle})
    for row in images:
        if row.bytes > SMALL_BYTES:
            stages.add_block(session, job, row, alone)


def cut(images: Sequence[JobImage], *, views: int) -> list[list[int]]:
    """The ordinals of each bundle."""
    most = max(min(max(-(-len(images) // BUNDLES), LEAST_BUNDLE), BUNDLE_IMAGES // views), 1)
    bundles: list[list[int]] = []
    taken = 0
    for image in images:
        if not bundles or len(bundles[-1]) == most or taken + image.bytes > BUNDLE_BYTES:
            bundles.append([])
            taken = 0
        bundles[-1].append(image.ordinal)
        taken += image.bytes
    return bundles
