"""EXAMINE: look into images of a dataset version as it was uploaded, and make what is missing of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from services.worker.context import Context
from services.worker.stages.each_image import end_each
from services.worker.stages.findings import Finding, list_classes
from services.worker.stages.keeping import Keeper
from services.worker.stages.outlined import examine_outlines, is_outlined, sketch
from services.worker.stages.version_files import VersionFiles
from shared.annotations import Annotation, AnnotationReader, Shapes, check_annotation, read_plane, write_image
from shared.domain.blocks import ImageOutcome, Outcome
from shared.errors import Missing, Rejected
from shared.examination.images import examine_image, find_image_problems
from shared.execution import Work
from shared.imaging.steps.truth import Truth
from shared.layouts import Entry
from shared.layouts.documents import clean
from shared.schemas.manifests import FILE_MISSING, Problem
from shared.slides import Slide, open_slide
from shared.tables import JobImage

AS_IT_IS = {"auto", "instances", "binary", "classes"}  # kinds of masks that one file of numbers holds


def examine(context: Context, work: Work) -> Outcome:
    """What is wrong with an image is a finding about it: the image is rejected, the others go on."""
    with VersionFiles(context, work) as files:
        block = _Block(context, files, AnnotationReader(work.check))

        def begin(images: Sequence[JobImage]) -> None:
            files.expect(name for image in images for name in _entry_of(image).files)

        return end_each(context, work, lambda image: _examine_image(block, image), begin=begin)


@dataclass(frozen=True)
class _Block:
    """What its images share: files that several are in are fetched once, and taken apart once."""

    context: Context
    files: VersionFiles
    reader: AnnotationReader


def _entry_of(image: JobImage) -> Entry:
    return Entry.of_json(image.entry["entry"])


def _examine_image(block: _Block, image: JobImage) -> ImageOutcome:
    entry, keeper, files = _entry_of(image), Keeper(block.context, image), block.files
    finding = Finding(
        name=image.name,
        split=entry.split,
        group=entry.group,
        parts=list(entry.parts),
        source=entry.as_json(),
    )
    try:
        with _open(files, entry, keeper, finding) as slide:
            _examine_pixels(slide, block, image, keeper, finding)
    except Rejected as error:
        finding.problems.append(_as_problem("image_unreadable", error))
    finally:
        files.release(entry.files)
    finding.read = {name: files.read[name] for name in entry.files if name in files.read}
    return keeper.end([finding])


def _as_problem(code: str, error: Rejected) -> Problem:
    """An error. Of bytes that are missing it says so: who sends them again may ingest again."""
    return Problem(
        code=FILE_MISSING if isinstance(error, Missing) else code, severity="error", text=str(clean(str(error)))
    )


@contextmanager
def _open(files: VersionFiles, entry: Entry, keeper: Keeper, finding: Finding) -> Iterator[Slide]:
    """The entry's image; one of many in a file is kept as a file of its own."""
    if entry.page is None:
        finding.file = entry.image
        with files.lend_image(entry) as path, open_slide(path, name=entry.name) as slide:
            yield slide
        return
    stack = files.fetch([entry.image])[entry.image]
    body = write_image(read_plane(stack, entry.page, name=entry.image))
    keeper.keep_image(finding, body)
    with keeper.lend(body) as kept, open_slide(kept, name=entry.name) as slide:
        yield slide


def _examine_pixels(slide: Slide, block: _Block, image: JobImage, keeper: Keeper, finding: Finding) -> None:
    entry = _entry_of(image)
    examination = examine_image(slide, check=block.files.check)
    finding.image, finding.mpp = examination.model_dump(mode="json"), slide.mpp
    finding.problems += find_image_problems(entry.name, examination)
    shown = Truth()
    try:
        if is_outlined(entry, slide):
            shapes = examine_outlines(slide, entry, _read_shapes(slide, block, image), finding)
            shown = Truth() if shapes is None else Truth(sketch(shapes, slide, examination.thumbnail))
        elif entry.masks:
            shown = _examine_truth(slide, block, image, keeper, finding)
    except Rejected as error:
        finding.problems.append(_as_problem("mask_unreadable", error))
    keeper.keep_thumbnail(finding, examination.overview, shown.labels, shown.classes)


def _read_shapes(slide: Slide, block: _Block, image: JobImage) -> Shapes | None:
    entry = _entry_of(image)
    paths, classes = block.files.fetch(entry.mask_files), image.entry["classes"]
    return block.reader.read_shapes(entry, paths, height=slide.height, width=slide.width, classes=classes)


def _examine_truth(slide: Slide, block: _Block, image: JobImage, keeper: Keeper, finding: Finding) -> Truth:
    """What the masks say; nothing if they do not belong to the image. Raises Rejected if they cannot be read."""
    entry, height, width = _entry_of(image), slide.height, slide.width
    paths, classes = block.files.fetch(entry.mask_files), image.entry["classes"]  # names of 1, 2, … in the dataset
    annotation = block.reader.read(entry, paths, height=height, width=width, classes=classes)
    finding.problems += check_annotation(annotation, height=height, width=width)
    if finding.errors:
        return Truth()
    _keep_truth(annotation, entry, keeper, finding)
    return Truth(annotation.labels, annotation.classes)


def _keep_truth(annotation: Annotation, entry: Entry, keeper: Keeper, finding: Finding) -> None:
    """The mask is the file that was uploaded, where one file says it all; otherwise one is made."""
    finding.mask_kind = annotation.kind
    finding.classes = list_classes(annotation.class_names)
    keeper.examine_truth(finding, annotation.labels, annotation.classes)
    if annotation.notes:
        finding.source = {**finding.source, "notes": list(annotation.notes)}
    one = len(entry.masks) == 1 and entry.mask_kind in AS_IT_IS and entry.mask_page is None
    if one and annotation.as_stored and not entry.masks[0].endswith(".npy"):
        finding.mask, finding.types = entry.masks[0], entry.types
    else:
        keeper.keep_truth(finding, annotation.labels, annotation.classes)
