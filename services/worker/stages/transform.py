"""TRANSFORM: images of a dataset version through the steps of a preprocess job."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.worker.context import Context
from services.worker.stages.each_image import end_each
from services.worker.stages.findings import Finding
from services.worker.stages.keeping import Keeper
from services.worker.stages.version_files import VersionFiles
from services.worker.stages.views import view_of
from shared.annotations import read_annotation, write_image
from shared.domain.blocks import ImageOutcome, Outcome
from shared.errors import Rejected
from shared.examination.images import examine_image, find_image_problems
from shared.execution import Work
from shared.imaging.steps.kinds import make_image_steps
from shared.imaging.steps.meaning import Meaning, follow
from shared.imaging.steps.transform import Made, Source, transform
from shared.imaging.steps.truth import Truth
from shared.layouts import Entry
from shared.slides import Slide, open_slide
from shared.tables import JobImage

LARGEST = 100_000_000  # px of an output: it is held whole


def transform_images(context: Context, work: Work) -> Outcome:
    """An image that a step cannot take is rejected, and gives nothing; the others go on."""
    with VersionFiles(context, work) as files:

        def begin(images: Sequence[JobImage]) -> None:
            entries = [as_entry(image) for image in images]
            files.expect(name for entry in entries for name in (*entry.image_files, *entry.mask_files))

        return end_each(context, work, lambda image: _transform_image(context, work, files, image), begin=begin)


def _transform_image(context: Context, work: Work, files: VersionFiles, image: JobImage) -> ImageOutcome:
    entry, keeper = as_entry(image), Keeper(context, image, derived=False)
    steps = work.claim.job.spec["parameters"]["steps"]
    source = Source(image.entry["digest"], entry.group, entry.split)
    meaning = follow(Meaning(image.entry["mask_kind"], tuple(image.entry["classes"])), steps)
    findings = []
    with open_slide(files.fetch_image(entry), name=image.name) as slide:
        truth = _read_truth(slide, files, entry)
        view = view_of(slide, make_image_steps(steps), name=image.name, check=work.check)
        for made in transform(view, truth, steps, source):
            work.check()
            _refuse_large(made, image)
            findings.append(_keep(made, meaning, image, keeper, files))
    return keeper.end(findings)


def _refuse_large(made: Made, image: JobImage) -> None:
    """Before its pixels are worked out. Raises Rejected."""
    frame = made.view.frame
    if frame.height * frame.width > LARGEST:
        raise Rejected(
            f"{image.name}: {frame.width} × {frame.height} px are too many for one image of a dataset that was "
            f"preprocessed ({LARGEST:,} px); add the step `tile`, or `resize` it"
        )


def as_entry(image: JobImage) -> Entry:
    """The image as its version's manifest describes it."""
    entry = image.entry
    return Entry(
        name=image.name,
        image=entry["file"],
        parts=tuple(entry["parts"]),
        masks=(entry["mask"],) if entry["mask"] else (),
        mask_kind=entry["mask_kind"] or "auto",
        types=entry["types"],
        split=entry["split"],
        group=entry["group"],
    )


def _read_truth(slide: Slide, files: VersionFiles, entry: Entry) -> Truth:
    if not entry.masks:
        return Truth()
    found = read_annotation(entry, files.fetch(entry.mask_files), height=slide.height, width=slide.width)
    return Truth(found.labels, found.classes)


def _keep(made: Made, meaning: Meaning, image: JobImage, keeper: Keeper, files: VersionFiles) -> Finding:
    """Store an output, and look at it as ingest looks at what is uploaded."""
    finding = Finding(
        name=f"{image.entry['stem']}{made.suffix}", split=made.split, group=made.group, source=_describe(made, image)
    )
    pixels = made.pixels
    body = write_image(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    keeper.keep_image(finding, body)
    with keeper.lend(body) as path, open_slide(path, name=finding.name) as slide:
        examination = examine_image(slide, check=files.check)
    finding.image, finding.mpp = examination.model_dump(mode="json"), made.view.frame.mpp
    finding.problems += find_image_problems(finding.name, examination)
    truth = made.truth
    if truth.labels is not None or truth.classes is not None:
        finding.mask_kind, finding.classes = meaning.kind, list(meaning.classes)
        keeper.examine_truth(finding, truth.labels, truth.classes)
        keeper.keep_truth(finding, truth.labels, truth.classes)
    keeper.keep_thumbnail(finding, examination.thumbnail, truth.labels, truth.classes)
    return finding


def _describe(made: Made, image: JobImage) -> Mapping[str, Any]:
    """Where the output is from: its image, its place in it, what was done."""
    box = made.box
    return {
        "image": image.name,
        "digest": image.entry["digest"],
        "box": [box.top, box.left, box.bottom, box.right] if box else None,
        "variant": made.variant,
        "done": made.done,
    }
