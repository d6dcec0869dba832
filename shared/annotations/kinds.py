"""What the numbers in a mask mean: objects, foreground, or classes."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from shared.annotations.annotation import Annotation, FoundKind
from shared.annotations.pieces import find_pieces, middle
from shared.annotations.values import Values, distinct, number_objects
from shared.errors import Rejected
from shared.layouts import MaskKind

MOST_CLASSES = 31  # the highest number that is taken for a class without being told so
SCATTERED = 2.0  # pieces per number, from which a few small numbers are classes
SOFT = 4.0  # pieces per number, from which other numbers are those of a picture
FEW = 16  # different numbers that are not many


def find_kind(values: Values) -> tuple[FoundKind, bool]:
    """What a mask (H, W) holds, by its numbers alone, and whether they are none of a mask.

    Two numbers, or one: binary. Few small ones (up to 16 of them, up to 31), each of which lies in more than two
    pieces on average: classes. Others: instances, each of which is mostly one piece; if they lie in more than four
    pieces on average, they are the grey of soft edges or of a JPEG. Where a mask shows so few objects that both would
    do, it is instances.
    """
    if distinct(values).size <= 2:
        return "binary", False
    part = middle(values)
    numbers = distinct(part)
    numbers = numbers[numbers > 0]
    pieces = find_pieces(part)[1] / max(numbers.size, 1)
    if numbers.size <= FEW and pieces > SCATTERED and int(values.max()) <= MOST_CLASSES:
        return "classes", False
    return "instances", pieces > SOFT


def agree(found: Iterable[FoundKind]) -> FoundKind:
    """What all masks of a dataset are, by what some of them were found to be.

    A mask with a single object looks binary, and one with few of them like instances; so binary masks have no say if
    there are others, and of these the more frequent kind counts.
    """
    counts = Counter(found)
    if not counts["instances"] and not counts["classes"]:
        return "binary"
    return "classes" if counts["classes"] > counts["instances"] else "instances"


def find_background(numbers: set[int]) -> int | None:
    """Background by all numbers of binary masks of a dataset, if it is not 0: the smaller one of two above 0."""
    return min(numbers) if len(numbers) == 2 and min(numbers) > 0 else None


def interpret(values: Values, kind: MaskKind, source: str, background: int | None = None) -> Annotation:
    """The annotation that the numbers of a mask (H, W) are, read as `kind`, or as what they seem to be ("auto").

    Numbers below 0 are background. Of two numbers in a binary mask, neither of them 0, the smaller is background; of
    one, `background`, which other masks of the dataset told.

    Raises:
        Rejected: a class number that does not fit into 0 … 255.
    """
    found, soft = find_kind(values) if kind != "classes" else ("classes", False)
    if kind in ("instances", "binary"):
        found = kind
    if found == "instances":
        return Annotation("instances", source, labels=number_objects(values), is_soft=soft)
    if found == "classes":
        return Annotation("classes", source, classes=to_classes(values, source))
    numbers = distinct(values)
    ground = _ground(numbers.tolist(), background)
    foreground = values > np.asarray(max(ground, 0)).astype(values.dtype)
    return Annotation(
        "binary",
        source,
        classes=foreground.astype(np.uint8),
        is_soft=soft and numbers.size > FEW,
        as_stored=ground <= 0,
    )


def _ground(numbers: list[int], told: int | None) -> int:
    """The number of the background of a binary mask with these numbers."""
    if len(numbers) == 2:
        return numbers[0]
    return told if told is not None and len(numbers) == 1 else 0


def to_classes(values: Values, source: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Class numbers (H, W) as uint8.

    Raises:
        Rejected: one of them is beyond 0 … 255.
    """
    if values.dtype != np.uint8 and values.size and (int(values.min()) < 0 or int(values.max()) > 255):
        raise Rejected(
            f"{source}: {int(values.max())} is no class, classes are 0 … 255; read the mask as instances if its "
            "numbers tell objects apart, or map its classes to smaller numbers"
        )
    return values.astype(np.uint8)
