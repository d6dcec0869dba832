"""ASSEMBLE: verify that every block of an image is there, join their objects, write what was asked for."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from services.worker.context import Context
from services.worker.stages.coarse_levels import write_coarse_levels
from services.worker.stages.exports import Shelf
from services.worker.stages.facts import ImageFacts
from services.worker.stages.image_objects import ImageObjects, write_objects
from services.worker.stages.mask_parts import MaskParts, write_parts
from services.worker.stages.object_parts import ObjectParts
from services.worker.stages.object_summary import describe_objects
from services.worker.stages.quality import judge_image, measure_image
from services.worker.stages.scoring import LargeScoring
from services.worker.stages.seams import measure_seams
from services.worker.stages.shards import Shards
from services.worker.stages.subject import Subject
from services.worker.writers.overlay import SIDE, draw_objects
from shared.domain import blocks
from shared.domain.blocks import ImageOutcome, NewArtifact, Outcome
from shared.execution import Work
from shared.imaging.flags import Confidence
from shared.imaging.tiling import Pixels
from shared.schemas.jobs import SegmentParameters
from shared.stopwatch import Stopwatch
from shared.storage import Stored, image_key
from shared.tables import JobImage
from shared.tables.base import Json
from shared.tables.jobs import Stage


def assemble(context: Context, work: Work) -> Outcome:
    """Reads each block's object back and compares its hash with the one committed, before anyone may call it done."""
    image, model = work.image, context.find_model(work.claim.job, work.image)
    facts, clock = ImageFacts.of(image), Stopwatch()
    parameters = SegmentParameters.of(work.claim.job.spec, image.entry)
    slide = context.staging.open(image)
    subject = Subject.of(image, facts, model, parameters, slide)
    shards = Shards(context, image, facts, model.contract)
    with (
        ThreadPoolExecutor(2, thread_name_prefix="assemble") as pool,
        TemporaryDirectory(dir=context.settings.cache_dir) as folder,
    ):
        # The processor's cores are idle otherwise: this is the last block of its image.
        overview = pool.submit(slide.overview, SIDE, work.check)
        seams = pool.submit(measure_seams, context, work, facts, slide)
        features = pool.submit(measure_image, slide, facts, model.contract, check=work.check)
        with clock.step("verify and write"):
            mask, foreground = write_parts(
                MaskParts(context, work, facts, shards), Path(folder), is_wanted="mask" in parameters.outputs
            )
            artifacts = mask_artifacts(image, mask)
            artifacts += write_coarse_levels(context, subject, shards) if "ome_zarr" in parameters.outputs else []
        found: Json = {
            "foreground_fraction": round(foreground / math.prod(facts.size), 6),
            "skipped_tiles": facts.skipped,
            "quality": judge_image(features.result(), _add_up(context, image), model.contract, name=subject.name),
        }
        findings: Sequence[Json] = []
        if parameters.wants_objects:
            scoring = LargeScoring(context, work, subject, shards, slide)
            with clock.step("objects"):
                objects = write_objects(
                    subject,
                    ObjectParts(context, image),
                    Shelf(context, image, Path(folder)),
                    overview=slide.overview_size(SIDE),
                    check=work.check,
                    watch=scoring.watch,
                )
            found["objects"] = describe_objects(objects.summary, facts)
            artifacts += objects.artifacts
            with clock.step("score"):
                findings, panels = scoring.end()
                artifacts += panels
            with clock.step("draw"):
                if parameters.wants_overlay:
                    artifacts += store_overlay(context, subject, overview.result(), objects)
        with clock.step("measure seams"):
            found["seams"] = seams.result()
    ended = ImageOutcome(image.id, result=found, findings=findings, artifacts=artifacts)
    return Outcome(result={"seconds": clock.seconds}, images=[ended])


def mask_artifacts(image: JobImage, mask: Stored | None) -> list[NewArtifact]:
    """The mask, if there is one."""
    return [] if mask is None else [NewArtifact("mask", f"{image.name}.mask.tif", "image/tiff", mask)]


def store_overlay(context: Context, subject: Subject, overview: Pixels, objects: ImageObjects) -> list[NewArtifact]:
    """The picture (h, w, 3) with the contours of the objects that it shows; perhaps for the contact sheet alone."""
    image = subject.image
    png = draw_objects(overview, objects.shown.labels.labels, objects.shown.classes)
    stored = context.storage.put(image_key(image.job_id, image.id, "overlay.png"), png)
    is_asked = "overlay" in subject.parameters.outputs
    return [NewArtifact("overlay", f"{image.name}.overlay.png", "image/png", stored)] if is_asked else []


def _add_up(context: Context, image: JobImage) -> Confidence:
    """How sure the model was, over all blocks."""
    with context.sessions() as session:
        done = blocks.results_of_image(session, image, Stage.PREDICT)
    told = [result["confidence"] for _, result in done if "confidence" in result]
    return Confidence(sure=sum(sure for sure, _ in told), unsure=sum(unsure for _, unsure in told))
