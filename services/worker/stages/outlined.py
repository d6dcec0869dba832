"""Slides whose masks are outlines and too large to be drawn whole: ingest leaves them as they are, tiles draw them."""

from services.worker.stages.findings import Finding, list_classes
from shared.annotations import LARGEST, Shapes, check_shapes
from shared.annotations.values import Labels
from shared.examination.labels import describe_objects
from shared.examination.thumbnails import decode_thumbnail
from shared.imaging.steps.drawn import DrawnTruth
from shared.imaging.steps.truth import Truth
from shared.imaging.tiling import Box
from shared.layouts import OUTLINES, Entry
from shared.slides import Slide


def is_outlined(entry: Entry, slide: Slide) -> bool:
    """Whether the mask of an entry stays as it was uploaded: outlines, on more pixels than are held at once."""
    return entry.mask_kind in OUTLINES and slide.height * slide.width > LARGEST


def examine_outlines(slide: Slide, entry: Entry, shapes: Shapes | None, finding: Finding) -> Shapes | None:
    """Note what the outlines on a slide are; None if they cannot be those of this slide."""
    height, width = slide.height, slide.width
    if shapes is None:
        raise ValueError(f"{entry.masks[0]} is a mask of pixels")
    finding.problems += check_shapes(shapes, height=height, width=width)
    if finding.errors:
        return None
    inside = shapes.lie_in(height, width)
    categories = shapes.categories[inside] if shapes.class_names else None
    finding.labels = describe_objects(shapes.areas[inside], categories, pixels=height * width).model_dump(mode="json")
    finding.mask, finding.mask_kind = entry.masks[0], entry.mask_kind
    finding.classes = list_classes(shapes.class_names)
    if shapes.notes:
        finding.source = {**finding.source, "notes": list(shapes.notes)}
    return shapes


def sketch(shapes: Shapes, slide: Slide, picture: bytes) -> Labels:
    """The objects (h, w) on a small JPEG of the slide."""
    height, width = decode_thumbnail(picture).shape[:2]
    return shapes.sketch((slide.height, slide.width), height, width)


def draw_truth(shapes: Shapes, slide: Slide, name: str) -> DrawnTruth:
    """The truth about a slide, which is drawn where a tile needs it."""

    def draw(box: Box) -> Truth:
        found = shapes.draw(box)
        return Truth(found.labels, found.classes)

    return DrawnTruth(name, slide.height, slide.width, draw)
