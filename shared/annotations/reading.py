"""From an entry of a layout to its annotation, whichever files hold it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from shared.annotations.annotation import Annotation
from shared.annotations.kinds import interpret, to_classes
from shared.annotations.merging import merge, read_pannuke
from shared.annotations.polygons import CocoFile, open_coco, read_coco, read_geojson
from shared.annotations.shapes import Shapes
from shared.annotations.values import read_values
from shared.errors import Rejected
from shared.imaging.tiling import Box
from shared.layouts import Entry

LARGEST = 256_000_000  # px of a mask that is held whole: 1 GB of labels
BYTES_PER_PIXEL = 32  # of a mask file, once decoded: four channels of 64 bits
SPARE = 2**24  # px that a mask may have in any case; sizes that do not fit are told by `check_annotation`


class AnnotationReader:
    """Reads the annotations of the images of a block; safe to share between its threads.

    A file that lists the objects of many images is taken apart once, by whoever asks first, and kept as long as this.
    `check` is called now and then while polygons are drawn, and may raise to break it off.
    """

    def __init__(self, check: Callable[[], None] | None = None) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._coco: dict[Path, CocoFile] = {}

    def read(
        self, entry: Entry, paths: Mapping[str, Path], *, height: int, width: int, classes: Sequence[str] = ()
    ) -> Annotation:
        """The truth about the image of an entry, which has height × width px.

        `paths`: where the entry's mask files lie, by their names. How numbers are read is said by `entry.mask_kind`.
        `classes`: names of the dataset's classes 1, 2, …, for files that call classes by names.

        Raises:
            Rejected: damaged, too large, or not of the kind that the entry says; the text names the file.
        """
        if not entry.masks:
            raise ValueError(f"{entry.name} has no mask")
        if height * width > LARGEST:
            raise Rejected(
                f"{entry.masks[0]}: a mask of {width} × {height} px is more than is held at once ({LARGEST:,} px); cut "
                "the slide into smaller images, or outline its objects in a GeoJSON, which is drawn tile by tile"
            )
        shapes = self.read_shapes(entry, paths, height=height, width=width, classes=classes)
        if shapes is not None:
            return shapes.draw(Box(0, 0, height, width), self._check)
        if entry.mask_kind == "merge":
            return merge(entry.masks, paths, height=height, width=width)
        if entry.mask_kind == "pannuke":
            return read_pannuke(paths[entry.masks[0]], entry.mask_page or 0, entry.masks[0])
        return _read_numbers(entry, paths, height=height, width=width)

    def read_shapes(
        self, entry: Entry, paths: Mapping[str, Path], *, height: int, width: int, classes: Sequence[str] = ()
    ) -> Shapes | None:
        """The objects of an entry whose mask is polygons, to be drawn part by part; None for masks of pixels."""
        first = entry.masks[0]
        if entry.mask_kind == "geojson":
            return read_geojson(paths[first], first, classes)
        if entry.mask_kind == "coco":
            file = self._open_coco(paths[first], first)
            return read_coco(file, str(entry.reference), size=(height, width), classes=classes)
        return None

    def _open_coco(self, path: Path, name: str) -> CocoFile:
        with self._lock:  # the others wait for it
            if path not in self._coco:
                self._coco[path] = open_coco(path, name)
            return self._coco[path]


def read_annotation(
    entry: Entry, paths: Mapping[str, Path], *, height: int, width: int, classes: Sequence[str] = ()
) -> Annotation:
    """As `AnnotationReader.read`, of a single image."""
    return AnnotationReader().read(entry, paths, height=height, width=width, classes=classes)


def read_shapes(
    entry: Entry, paths: Mapping[str, Path], *, height: int, width: int, classes: Sequence[str] = ()
) -> Shapes | None:
    """As `AnnotationReader.read_shapes`, of a single image."""
    return AnnotationReader().read_shapes(entry, paths, height=height, width=width, classes=classes)


def _read_numbers(entry: Entry, paths: Mapping[str, Path], *, height: int, width: int) -> Annotation:
    first = entry.masks[0]
    most = BYTES_PER_PIXEL * max(height * width, SPARE)
    values = read_values(paths[first], first, page=entry.mask_page, most=most)
    annotation = interpret(values, entry.mask_kind, first, entry.background)
    if entry.types is None:
        return annotation
    types = to_classes(read_values(paths[entry.types], entry.types, most=most), entry.types)
    if types.shape != annotation.shape:
        raise Rejected(
            f"{entry.types}: the classes have {types.shape[1]} × {types.shape[0]} px, but the mask {first} "
            f"{annotation.shape[1]} × {annotation.shape[0]} px; make them the same size"
        )
    return replace(annotation, classes=types)
