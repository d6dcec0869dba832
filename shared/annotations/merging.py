"""Masks of single objects, put together into one label image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from shared.annotations.annotation import Annotation
from shared.annotations.planes import open_array
from shared.annotations.values import Labels, Values, number_objects, read_values
from shared.errors import Rejected
from shared.imaging.tiling import Pixels
from shared.layouts.stacks import PANNUKE_CLASSES

Region = tuple[slice, slice]
LARGEST_CROWD = 100_000  # files of single objects for one image


@dataclass
class Canvas:
    """A label image that objects are painted into: where two overlap, the smaller one has the pixels.

    Of equals the one painted earlier does. So small objects do not vanish below large ones, whatever their order.
    """

    labels: Labels  # (H, W), painted in place
    sizes: dict[int, float] = field(default_factory=dict)  # number of an object → its px
    contested: int = 0  # pixels that more than one object wanted

    @classmethod
    def blank(cls, height: int, width: int) -> "Canvas":
        """Without objects yet."""
        return cls(np.zeros((height, width), np.int32))

    def paint(
        self,
        region: Region,
        mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
        *,
        size: float,
        number: int | None = None,
    ) -> None:
        """Add an object whose pixels within `region` are `mask`, of `size` px; by default the next number is its."""
        number = len(self.sizes) + 1 if number is None else number
        self.sizes[number] = size
        if not mask.any():
            return
        window = self.labels[region]
        there = window[mask]
        there = there[there > 0]
        if there.size:
            self.contested += there.size
            contested = np.unique(there)
            keep = [other for other in contested.tolist() if self.sizes[other] <= size]
            mask = mask & ~np.isin(window, keep)
        window[mask] = number

    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        if not self.contested:
            return ()
        return (f"pixels of more than one object, which the smaller one has: {self.contested}",)


def merge(names: Sequence[str], paths: Mapping[str, Path], *, height: int, width: int) -> Annotation:
    """One label image from a mask file for each object: what is not 0 is the object.

    Raises:
        Rejected: a file is damaged or has another size than the image.
    """
    if len(names) > LARGEST_CROWD:
        raise Rejected(f"{names[0]}: {len(names)} mask files for one image; {LARGEST_CROWD} are taken")
    canvas = Canvas.blank(height, width)
    empty: list[str] = []
    for name in names:
        values = read_values(paths[name], name)
        if values.shape != (height, width):
            raise Rejected(
                f"{name}: the mask of an object has {values.shape[1]} × {values.shape[0]} px, but the image "
                f"{width} × {height} px; make them the same size"
            )
        mask = values != np.zeros((), values.dtype)
        region = _region(mask)
        if region is None:
            empty.append(name)
            continue
        canvas.paint(region, mask[region], size=int(np.count_nonzero(mask[region])))
    notes = (f"empty mask files: {len(empty)}, such as {empty[0]}",) if empty else ()
    return Annotation("instances", names[0], labels=_compact(canvas.labels), notes=(*canvas.notes(), *notes))


def _region(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Region | None:
    """The smallest rectangle that holds all of the mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _compact(labels: Labels) -> Labels:
    """Without the numbers of objects that others cover wholly."""
    return number_objects(labels)


def read_pannuke(path: Path, page: int, name: str) -> Annotation:
    """A patch of PanNuke's masks (N, H, W, 6): instances in five planes, one for each class; the sixth is background.

    (Gamper et al. 2019.) Only the patch is read, however large the array is.

    Raises:
        Rejected: the array is damaged or has another shape, or numbers are not whole.
    """
    array = open_array(path, name)
    if array.ndim != 4 or array.shape[3] != len(PANNUKE_CLASSES) + 1:
        raise Rejected(f"{name}: PanNuke's masks have the shape (patches, H, W, 6), this has {array.shape}")
    if not 0 <= page < array.shape[0]:
        raise Rejected(f"{name}: there is no patch {page}, the file has {array.shape[0]}")
    patch = np.array(array[page])
    if patch.dtype.kind == "f" and not (np.isfinite(patch).all() and (patch == np.rint(patch)).all()):
        raise Rejected(f"{name}: patch {page} holds fractions where it should number nuclei; export it again")
    canvas = Canvas.blank(*patch.shape[:2])
    category = [0]
    for plane in range(len(PANNUKE_CLASSES)):
        category += _paint_plane(canvas, patch[:, :, plane]) * [plane + 1]
    classes: Pixels = np.asarray(category, np.uint8)[canvas.labels]
    return Annotation(
        "instances",
        name,
        labels=_compact(canvas.labels),
        classes=classes,
        class_names=dict(enumerate(PANNUKE_CLASSES, 1)),
        notes=canvas.notes(),
    )


def _paint_plane(canvas: Canvas, plane: Values) -> int:
    """Paint the numbered objects of a plane (H, W); how many there are."""
    labels = number_objects(plane.astype(np.int64))
    regions = ndimage.find_objects(labels)
    for number, region in enumerate(regions, 1):
        mask = labels[region] == number
        canvas.paint(region, mask, size=int(np.count_nonzero(mask)))
    return len(regions)
