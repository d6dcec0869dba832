"""Whether masks and models mean the same by the numbers of their classes."""

import re
from collections.abc import Iterator, Sequence

from shared.errors import Conflict
from shared.tables import DatasetImage, ModelVersion

_UNNAMED = re.compile(r"class \d+")  # what a class is called for want of a better name


def refuse_other_names(models: Sequence[tuple[str, ModelVersion]], images: Sequence[DatasetImage]) -> None:
    """Raise Conflict where a class has one name in a model, and another in another model or in masks.

    Scores and reports know classes by their numbers. `models`: as they are called in the order. Models of one class
    tell but foreground, and are compared with anything; a class without a name of its own is whatever has its number.
    """
    several = [(name, version.contract["classes"]) for name, version in models if len(version.contract["classes"]) > 2]
    if not several:
        return
    known = dict[int, tuple[str, str]]()
    for owner, classes in [*several, *_walk_masks(images)]:
        for number, name in enumerate(classes):
            if number == 0 or _UNNAMED.fullmatch(name):
                continue
            other, first = known.setdefault(number, (owner, name))
            if name.casefold() != first.casefold():
                raise Conflict(
                    f"class {number} is {first!r} of {other}, but {name!r} of {owner}: they cannot be compared; give "
                    "the masks the numbers of the model's classes by a preprocess job with the step `map_classes`, or "
                    "name models of the same classes"
                )


def _walk_masks(images: Sequence[DatasetImage]) -> Iterator[tuple[str, Sequence[str]]]:
    """Each list of classes once, of images whose masks tell them."""
    listed = {tuple(image.classes): image.name for image in reversed(images) if _tells_classes(image)}
    yield from ((f"the mask of {name}", classes) for classes, name in listed.items())


def _tells_classes(image: DatasetImage) -> bool:
    return image.mask_kind == "classes" or image.types is not None
