"""What the numbers of a mask mean after steps of masks: of which kind it is, and what its classes are called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BOUNDARY = "boundary"


@dataclass(frozen=True)
class Meaning:
    """Of a mask. `kind`: instances, binary or classes, None if there is no mask.

    `classes`: their names, the background first; none if they are not known.
    """

    kind: str | None
    classes: tuple[str, ...] = ()


def follow(meaning: Meaning, steps: Sequence[Mapping[str, Any]]) -> Meaning:
    """The meaning after all steps, as `shared.schemas.steps.as_json` gives them; most change nothing of it."""
    for step in steps:
        if meaning.kind is not None:
            meaning = _follow_one(meaning, step)
    return meaning


def _follow_one(meaning: Meaning, step: Mapping[str, Any]) -> Meaning:
    name = step["step"]
    if name in ("merge", "invert_mask") or (name == "boundary" and step["output"] == "binary"):
        return Meaning("binary", _background(meaning))
    if name == "boundary":
        return Meaning("classes", _put(meaning.classes, step["number"], BOUNDARY))
    if name == "fill" and step["mode"] == "contours":
        return Meaning("instances")
    if name == "map_classes":
        kind = "classes" if meaning.kind == "binary" else meaning.kind
        return Meaning(str(kind), _rename(meaning.classes, step))
    return meaning


def _background(meaning: Meaning) -> tuple[str, ...]:
    """Of a mask whose foreground has no name any more."""
    return (*meaning.classes[:1], "foreground") if meaning.classes else ()


def _put(classes: tuple[str, ...], number: int, name: str) -> tuple[str, ...]:
    """The names with one at a number; those between that nobody gave are called by their numbers."""
    listed = [*classes] or ["background"]
    listed += [f"class {index}" for index in range(len(listed), number + 1)]
    listed[number] = name
    return tuple(listed)


def _rename(classes: tuple[str, ...], step: Mapping[str, Any]) -> tuple[str, ...]:
    """What becomes one class has the name of the first of them."""
    if not classes:
        return ()
    mapping = {int(old): new for old, new in step["mapping"].items()}
    renamed = classes[:1]
    for old, name in reversed(list(enumerate(classes))):
        new = mapping.get(old, old if step["others"] == "keep" else 0)
        renamed = _put(renamed, new, name) if new > 0 else renamed
    return renamed
