"""ASSEMBLE: verify that every block of an image is there, join their objects, write what was asked for."""

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
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
from shared.domain.blocks import ImageOutcome, NewArtifact, NewBlock, Outcome
from shared.execution import Work
from shared.imaging.flags import Confidence
from shared.imaging.tiling import Pixels
from shared.schemas.jobs import SegmentParameters
from shared.slides import Slide
from shared.stopwatch import Stopwatch
from shared.storage import Stored, image_key
from shared.tables import JobImage
from shared.tables.base import Json
from shared.tables.jobs import Stage


def assemble(context: Context, work: Work) -> Outcome:
    """Reads each block's object back and compares its hash with the one committed, before anyone may call it done."""
    image, parameters = work.image, SegmentParameters.of(work.claim.job.spec, work.image.entry)
    if parameters.wants_objects and not _is_divided(context, image):  # planned by a version that knew of no objects
        return Outcome(blocks=[NewBlock(Stage.DIVIDE, 0, {})])
    facts, model = ImageFacts.of(image), context.find_model(work.claim.job, image)
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
        assembling = _Assembling(context, work, subject, slide, shards, Path(folder))
        assembling.write_pixels()
        confidence = _add_up(context, image)
        assembling.found["quality"] = judge_image(features.result(), confidence, model.contract, name=subject.name)
        if parameters.wants_objects:
            assembling.write_objects(overview)
        with assembling.clock.step("measure seams"):
            assembling.found["seams"] = seams.result()
    return assembling.end()


@dataclass
class _Assembling:
    """A large image, and what became of it so far."""

    context: Context
    work: Work
    subject: Subject
    slide: Slide
    shards: Shards
    folder: Path
    clock: Stopwatch = field(default_factory=Stopwatch)
    found: Json = field(default_factory=dict)
    findings: Sequence[Json] = ()
    artifacts: list[NewArtifact] = field(default_factory=list)

    def write_pixels(self) -> None:
        """The mask, and what was missing of the map. Every shard is verified."""
        subject, outputs = self.subject, self.subject.parameters.outputs
        with self.clock.step("verify and write"):
            parts = MaskParts(self.context, self.work, subject.facts, self.shards)
            mask, foreground = write_parts(parts, self.folder, is_wanted="mask" in outputs)
            self.artifacts += mask_artifacts(subject.image, mask)
            if "ome_zarr" in outputs:
                self.artifacts += write_coarse_levels(self.context, subject, self.shards)
        self.found["foreground_fraction"] = round(foreground / math.prod(subject.facts.size), 6)
        self.found["skipped_tiles"] = subject.facts.skipped

    def write_objects(self, overview: Future[Pixels]) -> None:
        """What was asked for of the objects, their scores, and the picture (h, w, 3) with their contours."""
        context, subject = self.context, self.subject
        scoring = LargeScoring(context, self.work, subject, self.shards, self.slide)
        with self.clock.step("objects"):
            objects = write_objects(
                subject,
                ObjectParts(context, subject.image),
                Shelf(context, subject.image, self.folder),
                overview=self.slide.overview_size(SIDE),
                check=self.work.check,
                watch=scoring.watch,
            )
        self.found["objects"] = describe_objects(objects.summary, subject.facts)
        with self.clock.step("score"):
            self.findings, panels = scoring.end()
        self.artifacts += [*objects.artifacts, *panels]
        with self.clock.step("draw"):
            if subject.parameters.wants_overlay:
                self.artifacts += store_overlay(context, subject, overview.result(), objects)

    def end(self) -> Outcome:
        """The image's end."""
        image = ImageOutcome(self.work.image.id, result=self.found, findings=self.findings, artifacts=self.artifacts)
        return Outcome(result={"seconds": self.clock.seconds}, images=[image])


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


def _is_divided(context: Context, image: JobImage) -> bool:
    with context.sessions() as session:
        return bool(blocks.results_of_image(session, image, Stage.DIVIDE))


def _add_up(context: Context, image: JobImage) -> Confidence:
    """How sure the model was, over all blocks."""
    with context.sessions() as session:
        done = blocks.results_of_image(session, image, Stage.PREDICT)
    told = [result["confidence"] for _, result in done if "confidence" in result]
    return Confidence(sure=sum(sure for sure, _ in told), unsure=sum(unsure for _, unsure in told))
