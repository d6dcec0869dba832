"""What is wrong with a mask, or looks as if it were."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from shared.annotations.annotation import Annotation
from shared.annotations.pieces import count_blobs, find_pieces, middle
from shared.annotations.shapes import Shapes
from shared.annotations.values import Labels
from shared.imaging.tiling import Pixels
from shared.schemas.manifests import Problem

TINY = 9  # px² below which an object is hardly one
MOSTLY = 0.5  # share of the objects, or of the pixels, from which "most" is meant
BLOBS = 5  # holes for each piece of foreground, and in all, from which they look like the objects themselves
MANY = 1000  # pieces of one number, from which it is no object, wherever they lie
FAR = 32  # px between pieces of one object, or its own length if that is more


def check_annotation(annotation: Annotation, *, height: int, width: int) -> list[Problem]:
    """Findings about the mask of an image of height × width px, none if all is well.

    Of masks larger than 2048² px the middle stands for the whole where pieces are counted.
    """
    rows, columns = annotation.shape
    if (rows, columns) != (height, width):
        return [
            _error(
                "mask_size",
                f"{annotation.source}: the mask has {columns} × {rows} px, but the image {width} × {height} px; make "
                "them the same size",
            )
        ]
    if annotation.is_soft:
        return [
            _error(
                "mask_not_labels",
                f"{annotation.source}: its values are scattered as in a picture with soft edges or a JPEG, not one for "
                "each object; export it as PNG or TIFF without smoothing, or with a threshold applied",
            )
        ]
    either = annotation.labels if annotation.labels is not None else annotation.classes
    if either is not None and not either.any():
        return [_warning("mask_empty", f"{annotation.source}: nothing is marked; leave it if the image shows nothing")]
    problems = _check_classes(annotation)
    if annotation.labels is not None:
        problems += _check_labels(annotation.labels, annotation.source)
    elif annotation.kind == "binary" and annotation.classes is not None:
        problems += _check_polarity(annotation.classes, annotation.source)
    return problems


def check_shapes(shapes: Shapes, *, height: int, width: int) -> list[Problem]:
    """Findings about outlines on an image of height × width px that are not drawn whole, none if all is well."""
    source, inside = shapes.source, shapes.lie_in(height, width)
    outside = inside.size - int(inside.sum())
    if not inside.size:
        return [_warning("mask_empty", f"{source}: nothing is marked; leave it if the image shows nothing")]
    if outside == inside.size:
        text = (
            f"{source}: its {outside} objects all lie outside the image of {width} × {height} px, so that their "
            "coordinates do not fit it; export them in px of the image's full resolution"
        )
        return [_error("mask_size", text)]
    problems = _check_tiny(shapes.areas[inside], source)
    if outside:
        text = f"{source}: {outside} of {inside.size} objects lie outside the image; check that they were drawn on it"
        problems.append(_warning("objects_outside", text))
    return problems


def _check_classes(annotation: Annotation) -> list[Problem]:
    if annotation.classes is None or not annotation.class_names:
        return []
    found = set(np.flatnonzero(np.bincount(annotation.classes.ravel(), minlength=1)).tolist()) - {0}
    unknown = sorted(found - set(annotation.class_names))
    if not unknown:
        return []
    known = ", ".join(f"{number} {name}" for number, name in annotation.class_names.items())
    text = f"{annotation.source}: class {unknown[0]} is not known ({known}); map it to one of these"
    return [_error("class_unknown", text)]


def _check_polarity(classes: Pixels, source: str) -> list[Problem]:
    """Suspected: foreground covers most, and what it leaves free are many blobs, as objects would be."""
    mask = np.asarray(middle(classes) != np.uint8(0))
    if mask.mean() <= MOSTLY:
        return []
    holes, pieces = count_blobs(~mask), count_blobs(mask)
    if holes < BLOBS * max(pieces, 1):
        return []
    text = (
        f"{source}: {mask.mean():.0%} are foreground with {holes} separate gaps, as if objects and background were "
        "exchanged; invert the mask if so (step invert_mask)"
    )
    return [_warning("polarity_suspected", text)]


def _check_labels(labels: Labels, source: str) -> list[Problem]:
    part = middle(labels)
    sizes = np.bincount(part.ravel())[1:]
    sizes = sizes[sizes > 0]
    problems = _check_tiny(sizes, source) + _check_largest(labels, source)
    split = _count_split(part.astype(np.int32, copy=False))
    if split:
        text = (
            f"{source}: {split} of {sizes.size} numbers stand for pieces that lie far apart; give each object a number "
            "of its own"
        )
        problems.append(_warning("objects_split", text))
    return problems


def _check_largest(labels: Labels, source: str) -> list[Problem]:
    """Suspected: one object that covers most and reaches all four borders, as a background that is not 0 does."""
    around = [set(np.unique(line).tolist()) for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1])]
    everywhere = set.intersection(*around) - {0}
    for number in sorted(everywhere):
        share = float(np.count_nonzero(labels == number) / labels.size)
        if share > MOSTLY:
            text = (
                f"{source}: one object covers {share:.0%} and reaches all four borders, as background would; give "
                "background the number 0 if it is that"
            )
            return [_warning("polarity_suspected", text)]
    return []


def _check_tiny(sizes: NDArray[Any], source: str) -> list[Problem]:
    """`sizes` (n,) of objects, px²."""
    tiny = int((sizes < TINY).sum())
    if not sizes.size or tiny <= MOSTLY * sizes.size:
        return []
    text = f"{source}: {tiny} of {sizes.size} objects have less than {TINY} px; check that the numbers are objects'"
    return [_warning("objects_tiny", text)]


def _count_split(labels: Labels) -> int:
    """Objects of several pieces, one of which is further from the others than `FAR` or than it is long itself."""
    pieces, count = find_pieces(labels)
    if count <= np.unique(labels[labels > 0]).size:
        return 0
    found = ndimage.find_objects(pieces)
    boxes = np.array([[rows.start, columns.start, rows.stop, columns.stop] for rows, columns in found])
    owners = np.zeros(count + 1, np.int64)
    owners[pieces.ravel()] = labels.ravel()
    order = np.argsort(owners[1:], kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(owners[1:][order])) + 1)
    return sum(_is_split(boxes[group]) for group in groups if group.size > 1)


def _is_split(boxes: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> bool:
    """Whether any of the boxes (n, 4) lies far from all others, or there are too many to be one object."""
    if len(boxes) > MANY:
        return True
    start, end = boxes[:, None, :2], boxes[None, :, 2:]
    gaps = np.maximum(start - end, np.swapaxes(start - end, 0, 1)).max(axis=2)
    np.fill_diagonal(gaps, np.iinfo(np.int64).max)
    lengths = (boxes[:, 2:] - boxes[:, :2]).max()
    return bool((gaps.min(axis=1) > max(FAR, int(lengths))).any())


def _error(code: str, text: str) -> Problem:
    return Problem(code=code, severity="error", text=text)


def _warning(code: str, text: str) -> Problem:
    return Problem(code=code, severity="warning", text=text)
