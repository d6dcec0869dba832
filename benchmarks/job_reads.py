"""Files of every kind, read as a job reads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.whole_files import Use
from shared.annotations import check_annotation, count_pages, read_annotation, read_plane
from shared.imaging.tiling import Box
from shared.layouts import Entry
from shared.slides import NotByRanges, RangedSource, Slide, open_slide

NAME = "sent"  # what a user would call the file
REGION = 512  # px


def read_slide(path: Path) -> None:
    """Look at all that a job looks at; by ranges too."""
    with open_slide(path, name=NAME) as slide:
        look_at(slide)
    if path.is_dir():
        return
    content = path.read_bytes()
    source = RangedSource(lambda offset, count: content[offset : offset + count], len(content))
    try:
        with open_slide(source, name=NAME) as slide:
            look_at(slide)
    except NotByRanges:
        pass


def look_at(slide: Slide) -> None:
    """The whole, small; a region of each level; all channels of one."""
    slide.overview(256)
    for index, level in enumerate(slide.levels):
        whole = Box(0, 0, level.height, level.width)
        slide.read(_region(0, 0).intersect(whole), index)
        slide.read(_region(level.height // 2, level.width // 2).intersect(whole), index)
    slide.read_channels(_region(0, 0).intersect(Box(0, 0, slide.height, slide.width)))


def _region(top: int, left: int) -> Box:
    return Box(top, left, top + REGION, left + REGION)


def read_array(path: Path) -> None:
    """Each of its first pages, and as a mask of the middle one."""
    pages = count_pages(path, NAME)
    for page in range(min(pages, 3)):
        read_plane(path, page, name=NAME)
    plane = read_plane(path, 0, name=NAME)
    kind: Any = "pannuke" if plane.ndim == 3 and plane.shape[2] == 6 else "auto"
    entry = Entry(name=NAME, image=NAME, masks=(NAME,), mask_page=0, mask_kind=kind)
    annotate(entry, path, plane.shape[0], plane.shape[1])


def read_mask(path: Path) -> None:
    """As the mask of an image of any size."""
    annotate(Entry(name=NAME, image=NAME, masks=(NAME,)), path, 256, 256)


def read_coco(path: Path) -> None:
    """The objects of its first image."""
    entry = Entry(name=NAME, image=NAME, masks=(NAME,), mask_kind="coco", reference="1")
    annotate(entry, path, 160, 160)


def read_geojson(path: Path) -> None:
    """All its objects."""
    annotate(Entry(name=NAME, image=NAME, masks=(NAME,), mask_kind="geojson"), path, 160, 160)


def annotate(entry: Entry, path: Path, height: int, width: int) -> None:
    """Read and check the truth of an entry."""
    annotation = read_annotation(entry, {NAME: path}, height=height, width=width)
    check_annotation(annotation, height=height, width=width)


READERS: dict[Use, Callable[[Path], None]] = {
    "slide": read_slide,
    "mask": read_mask,
    "array": read_array,
    "coco": read_coco,
    "geojson": read_geojson,
}
