"""What the images of a job are collected in: one COCO file, one sheet of pictures."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from services.worker.context import Context
from services.worker.stages.each_image import walk_images
from services.worker.stages.exports import COCO_PART
from services.worker.writers.coco import CocoImage, string_coco
from services.worker.writers.contact_sheet import Contact, choose_pictures, draw_contact_sheet
from shared.domain.blocks import NewArtifact
from shared.errors import NotFound, Unavailable
from shared.execution import Work
from shared.schemas.jobs import SegmentParameters
from shared.storage import READ_BYTES, image_key, job_key
from shared.tables import JobImage
from shared.tables.jobs import ImageState

COCO, SHEET = "coco.json", "contact_sheet.png"


def collect_images(context: Context, work: Work) -> list[NewArtifact]:
    """The files that are asked for of all images together; of images that failed, there is nothing in them."""
    outputs, artifacts = SegmentParameters.of(work.claim.job.spec).outputs, list[NewArtifact]()
    if "coco" in outputs:
        artifacts.append(_store_coco(context, work))
    if "contact_sheet" in outputs:
        artifacts.append(_store_sheet(context, work))
    return artifacts


def _store_coco(context: Context, work: Work) -> NewArtifact:
    job = work.claim.job
    with NamedTemporaryFile(dir=context.settings.cache_dir) as file:
        string_coco(file, _walk_parts(context, work), categories=_find_categories(context, work))  # type: ignore[arg-type]  # a binary file as well
        file.flush()
        stored = context.storage.put_file(job_key(job.id, COCO), Path(file.name))
    return NewArtifact("coco", COCO, "application/json", stored)


def _find_categories(context: Context, work: Work) -> dict[str, int]:
    """Classes of objects by name; of two models that are compared, of the first."""
    for image in walk_images(context, work):
        classes = context.find_model(work.claim.job, image).contract.classes
        return {name: number for number, name in enumerate(classes) if number > 0}
    return {}


def _walk_parts(context: Context, work: Work) -> Iterator[CocoImage]:
    for image in walk_images(context, work):
        if image.state is ImageState.DONE:
            height, width = image.facts.get("own") or (image.facts["height"], image.facts["width"])
            yield CocoImage(image.name, height, width, _read_part(context, image))


def _read_part(context: Context, image: JobImage) -> Iterator[bytes]:
    """Piece by piece: of a large slide it is hundreds of megabytes."""
    key = image_key(image.job_id, image.id, COCO_PART)
    found = context.storage.look(key)
    if found is None:
        raise Unavailable(f"{image.name}: its part of {COCO} is not in the store any more; order the job again")
    for start in range(0, found.bytes, READ_BYTES):
        yield context.storage.read_range(key, start, min(READ_BYTES, found.bytes - start))


def _store_sheet(context: Context, work: Work) -> NewArtifact:
    images = [(image.id, image.name, image.state, _count(image)) for image in walk_images(context, work)]
    contacts = list[Contact]()
    for place in choose_pictures(len(images)):
        work.check()
        image_id, name, state, objects = images[place]
        overlay = None
        if state is ImageState.DONE:
            with suppress(NotFound):
                overlay = context.storage.get(image_key(work.claim.job.id, image_id, "overlay.png"))
        contacts.append(Contact(name, objects, overlay))
    body = draw_contact_sheet(contacts, of=len(images))
    return NewArtifact(
        "contact_sheet", SHEET, "image/png", context.storage.put(job_key(work.claim.job.id, SHEET), body)
    )


def _count(image: JobImage) -> int | None:
    found: int | None = image.result.get("objects", {}).get("count")
    return found
