"""ASSEMBLE: verify that every block of an image is there, and make the mask and the overlay of it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from services.worker.context import Context
from services.worker.stages.facts import ImageFacts, probability_map
from services.worker.writers.mask import TILE, write_mask
from services.worker.writers.overlay import SIDE, OverviewMask, draw_overlay
from services.worker.writers.probability import FOLDER
from shared.domain import artifacts
from shared.domain.blocks import NewArtifact, Outcome
from shared.execution import Work
from shared.imaging.masks import close_strips, find_classes
from shared.imaging.tiling import Box, Pixels
from shared.stopwatch import Stopwatch
from shared.storage import Stored, image_key
from shared.tables import JobImage


def assemble(context: Context, work: Work) -> Outcome:
    """Reads each block's object back and compares its hash with the one committed, before anyone may call it done."""
    image = work.image
    facts, clock = ImageFacts.of(image), Stopwatch()
    with clock.step("overview"):
        overview = context.staging.open(image).overview(SIDE)
    small = OverviewMask(full=(facts.height, facts.width), overview=overview.shape[:2])
    closing = work.claim.job.spec["parameters"].get("closing", 0)  # jobs of before it was offered have none
    foreground = 0

    def strips() -> Iterator[Pixels]:
        nonlocal foreground
        for strip in close_strips(_in_rows_of_tiles(_classes(context, work, facts)), closing):
            small.add(strip)
            foreground += int(np.count_nonzero(strip))
            yield strip

    with TemporaryDirectory(dir=context.settings.cache_dir) as folder, clock.step("verify and write"):
        path = Path(folder) / "mask.tif"
        write_mask(path, strips(), height=facts.height, width=facts.width, mpp=facts.mpp)
        work.check()
        mask = context.storage.put_file(image_key(image.job_id, image.id, "mask.tif"), path)
        png = draw_overlay(overview, small.mask)
        overlay = context.storage.put(image_key(image.job_id, image.id, "overlay.png"), png)
    result = {
        "seconds": clock.seconds,
        "foreground_fraction": round(foreground / (facts.height * facts.width), 6),
    }
    return Outcome(result=result, artifacts=_artifacts(image, mask, overlay))


def _artifacts(image: JobImage, mask: Stored, overlay: Stored) -> list[NewArtifact]:
    return [
        NewArtifact("mask", f"{image.name}.mask.tif", "image/tiff", mask),
        NewArtifact("overlay", f"{image.name}.overlay.png", "image/png", overlay),
    ]


def _classes(context: Context, work: Work, facts: ImageFacts) -> Iterator[Pixels]:
    """The class of each pixel, in strips of one row of blocks (rows, width)."""
    job, image = work.claim.job, work.image
    probability = probability_map(context.find_model(job).contract, facts)
    with context.sessions() as session:
        written = artifacts.of_image(session, job.workspace_id, image, kind="probability")
    digests = {row.key: row.sha256 for row in written}
    for top in range(0, facts.height, facts.block_side):
        work.check()
        strip = Box(top, 0, min(top + facts.block_side, facts.height), facts.width)
        classes = np.empty((strip.height, strip.width), dtype=np.uint8)
        for left in range(0, facts.width, facts.block_side):
            block = Box(top, left, strip.bottom, min(left + facts.block_side, facts.width))
            key = probability.key_of(block)
            planes = probability.decode(block, {key: _get_verified(context, image, key, digests)})
            classes[:, block.left : block.right] = find_classes(planes, threshold=job.spec["parameters"]["threshold"])
        yield classes


def _in_rows_of_tiles(strips: Iterator[Pixels]) -> Iterator[Pixels]:
    """The same in strips as low as the mask's file takes them: closing holds several copies of what it works on."""
    for strip in strips:
        for top in range(0, len(strip), TILE):
            yield strip[top : top + TILE]


def _get_verified(context: Context, image: JobImage, key: str, digests: dict[str, str]) -> bytes:
    place = image_key(image.job_id, image.id, f"{FOLDER}/{key}")
    return context.storage.get_verified(place, sha256=digests[place])
