"""TRANSFORM: images of a dataset version through the steps of a preprocess job."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.worker.context import Context
from services.worker.stages.each_image import end_each
from services.worker.stages.findings import Finding
from services.worker.stages.keeping import Keeper
from services.worker.stages.outlined import draw_truth
from services.worker.stages.version_files import VersionFiles
from services.worker.stages.views import view_of
from shared.annotations import (
    Annotation,
    FoundKind,
    check_annotation,
    read_annotation,
    read_shapes,
    suffix_of,
    write_image,
)
from shared.domain.blocks import ImageOutcome, Outcome
from shared.errors import Rejected
from shared.examination.images import examine_image, find_image_problems
from shared.execution import Work
from shared.imaging.steps.drawn import DrawnTruth
from shared.imaging.steps.kinds import make_image_steps
from shared.imaging.steps.meaning import Meaning, follow
from shared.imaging.steps.tiles import Tiles
from shared.imaging.steps.transform import Fields, Made, Source, find_step, transform
from shared.imaging.steps.truth import Truth
from shared.imaging.steps.views import Frame, reframe
from shared.layouts import OUTLINES, Entry
from shared.schemas.manifests import Problem
from shared.slides import HeldSlide, Slide, open_slide
from shared.tables import JobImage

LARGEST = 100_000_000  # px of an output: it is held whole
MOST = 40_000  # outputs of an image: what is found out about them, 5 kB each, is one value in the database
CUT = {"objects_tiny", "objects_split"}  # problems that tiles have by nature: slivers and pieces at their borders


def transform_images(context: Context, work: Work) -> Outcome:
    """An image that a step cannot take is rejected, and gives nothing; the others go on."""
    with VersionFiles(context, work) as files:

        def begin(images: Sequence[JobImage]) -> None:
            files.expect(name for image in images for name in as_entry(image).files)

        def end(image: JobImage) -> ImageOutcome:
            try:
                return _transform_image(context, work, files, image)
            finally:
                files.release(as_entry(image).files)

        return end_each(context, work, end, begin=begin)


def _transform_image(context: Context, work: Work, files: VersionFiles, image: JobImage) -> ImageOutcome:
    entry, keeper = as_entry(image), Keeper(context, image, derived=False)
    steps = work.claim.job.spec["parameters"]["steps"]
    source = Source(image.entry["digest"], entry.group, entry.split)
    classes = tuple(image.entry["classes"])
    kind = "instances" if entry.mask_kind in OUTLINES else image.entry["mask_kind"]
    meaning = follow(Meaning(kind, classes), steps)
    findings: list[Finding] = []
    with files.lend_image(entry) as path, open_slide(path, name=image.name) as slide:
        view = view_of(slide, make_image_steps(steps), name=image.name, check=work.check)
        refuse_large(view.frame, steps)
        truth = _read_truth(slide, files, entry, classes)
        for made in transform(view, truth, steps, source, work.check):
            work.check()
            if len(findings) == MOST:
                raise _too_many(image.name)
            findings.append(keep_made(made, meaning, image, keeper, check=work.check))
    drop_usual(findings)
    return keeper.end(findings)


def refuse_large(frame: Frame, steps: Sequence[Fields]) -> None:
    """Before anything is worked out of an image. Raises Rejected for too much, also if a step cannot take the image."""
    frame = reframe(frame, make_image_steps(steps))
    fields = find_step(steps, "tile")
    if fields is not None:
        tiles, augment = Tiles(**fields), find_step(steps, "augment")
        variants = augment["variants"] if augment is not None else 1
        if not tiles.chooses and tiles.count(frame.height, frame.width) * variants > MOST:
            raise _too_many(frame.name)
    elif frame.height * frame.width > LARGEST:
        raise Rejected(
            f"{frame.name}: {frame.width} × {frame.height} px are too many for one image of a dataset that was "
            f"preprocessed ({LARGEST:,} px); add the step `tile`, or `resize` it"
        )


def _too_many(name: str) -> Rejected:
    return Rejected(
        f"{name}: more than {MOST:,} outputs are too many for one image; cut larger tiles, resize it first, or leave "
        "out tiles that hold nothing (least_foreground, only_tissue)"
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
        reference=entry.get("reference"),
        split=entry["split"],
        group=entry["group"],
    )


def _read_truth(slide: Slide, files: VersionFiles, entry: Entry, classes: Sequence[str]) -> Truth | DrawnTruth:
    """`classes`: names of 0, 1, … in the manifest."""
    if not entry.masks:
        return Truth()
    paths, height, width = files.fetch(entry.mask_files), slide.height, slide.width
    shapes = read_shapes(entry, paths, height=height, width=width, classes=classes[1:])
    if shapes is not None:
        return draw_truth(shapes, slide, entry.name)
    found = read_annotation(entry, paths, height=height, width=width)
    return Truth(found.labels, found.classes)


def keep_made(made: Made, meaning: Meaning, image: JobImage, keeper: Keeper, *, check: Callable[[], None]) -> Finding:
    """Store an output, and look at it as ingest looks at what is uploaded."""
    finding = Finding(
        name=f"{image.entry['stem']}{made.suffix}", split=made.split, group=made.group, source=_describe(made, image)
    )
    pixels = made.pixels
    body = write_image(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    keeper.keep_image(finding, body)
    held = HeldSlide(pixels, format=suffix_of(body)[1:], mpp=made.view.frame.mpp)
    examination = examine_image(held, check=check)
    finding.image, finding.mpp = examination.model_dump(mode="json"), made.view.frame.mpp
    finding.problems += find_image_problems(finding.name, examination)
    truth = made.truth
    if truth.labels is not None or truth.classes is not None:
        finding.mask_kind, finding.classes = meaning.kind, list(meaning.classes)
        finding.problems += _check_truth(made, meaning, finding.name)
        keeper.examine_truth(finding, truth.labels, truth.classes)
        keeper.keep_truth(finding, truth.labels, truth.classes)
    keeper.keep_thumbnail(finding, examination.overview, truth.labels, truth.classes)
    return finding


def _check_truth(made: Made, meaning: Meaning, name: str) -> list[Problem]:
    """Warnings about a mask that steps made: an image that was accepted once is not lost for it."""
    kind: FoundKind = "instances" if made.truth.labels is not None else "classes"
    if meaning.kind == "binary":
        kind = "binary"
    frame, named = made.view.frame, dict(enumerate(meaning.classes))
    named.pop(0, None)
    annotation = Annotation(kind, name, made.truth.labels, made.truth.classes, named)
    problems = check_annotation(annotation, height=frame.height, width=frame.width)
    return [problem.model_copy(update={"severity": "warning"}) for problem in problems if _is_news(problem, made)]


def _is_news(problem: Problem, made: Made) -> bool:
    return made.box is None or problem.code not in CUT


def drop_usual(findings: Sequence[Finding]) -> None:
    """A tile that holds nothing is nothing to tell; that none of the image's tiles holds anything is told once."""
    tiles = [finding for finding in findings if finding.source["box"] is not None]
    is_lost = not any(finding.labels.get("foreground") for finding in tiles)
    for finding in tiles[is_lost:]:
        finding.problems = [problem for problem in finding.problems if problem.code != "mask_empty"]


def _describe(made: Made, image: JobImage) -> Mapping[str, Any]:
    """Where the output is from: its image, its place in it, what was done."""
    box = made.box
    return {
        "image": image.name,
        "digest": image.entry["digest"],
        "box": [box.top, box.left, box.bottom, box.right] if box else None,
        "variant": made.variant,
        "done": made.done,
        "related": image.entry.get("related", []),
    }
