"""Steps of preprocessing, as orders, dataset versions and contracts list them.

Three kinds, which follow one another: steps of images and of masks, in any order among themselves; then at most one
each of those that make a set out of images, `tile`, `split`, `augment`. What the steps do is arithmetic in
`shared.imaging.steps`; docs/preprocessing.md describes each.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter

from shared.schemas.step_kinds import (
    AugmentStep,
    BoundaryStep,
    ChannelsStep,
    ClaheStep,
    ClosingStep,
    EqualiseStep,
    FillStep,
    GreyscaleStep,
    InvertMaskStep,
    InvertStep,
    MapClassesStep,
    MedianStep,
    MergeStep,
    NormaliseStep,
    OpeningStep,
    ResizeStep,
    SplitStep,
    StainStep,
    TileStep,
)

MOST_STEPS = 30

_Images = ResizeStep | ChannelsStep | GreyscaleStep | InvertStep | NormaliseStep | EqualiseStep | ClaheStep | StainStep
ImageStep = Annotated[_Images | MedianStep, Field(discriminator="step")]
MaskStep = Annotated[
    InvertMaskStep | OpeningStep | ClosingStep | BoundaryStep | FillStep | MergeStep | MapClassesStep,
    Field(discriminator="step"),
]
SetStep = Annotated[TileStep | SplitStep | AugmentStep, Field(discriminator="step")]
Step = Annotated[ImageStep | MaskStep | SetStep, Field(discriminator="step")]

IMAGE_STEPS = {"resize", "channels", "greyscale", "invert", "normalise", "equalise", "clahe", "stain", "median"}
SET_STEPS = ("tile", "split", "augment")  # in this order, after all others
_LEVELS = {"normalise", "equalise", "clahe", "invert"}  # after which colours are not those of stains any more


def check_order(steps: list[Step]) -> list[Step]:
    """The steps themselves, if they can follow one another so. Raises ValueError with the mend."""
    names: list[str] = [step.step for step in steps]
    for once in ("resize", "channels", "greyscale", "boundary", *SET_STEPS):
        if names.count(once) > 1:
            raise ValueError(f"{once} may come once only")
    _check_sets(names)
    _check_colours(steps)
    return steps


def _check_sets(names: Sequence[str]) -> None:
    found = [SET_STEPS.index(name) if name in SET_STEPS else -1 for name in names]
    for (before, first), (after, second) in zip(
        zip(names, found, strict=True), zip(names[1:], found[1:], strict=True), strict=False
    ):
        if first > second:
            raise ValueError(
                f"{after} must come before {before}: first what changes images and masks, then {', '.join(SET_STEPS)}"
            )


def _check_colours(steps: Sequence[Step]) -> None:
    """Statistics of colours need colours, as the microscope saw them."""
    images = [step for step in steps if step.step in IMAGE_STEPS]
    grey, levelled = "", ""
    for place, step in enumerate(images):
        if step.step == "channels" and place > 0:
            raise ValueError("channels must be the first of the steps of images: later there are no others to choose")
        if step.step in ("stain", "greyscale") and grey:
            raise ValueError(f"{step.step} after {grey} has no colours to work on; put it before, or leave it out")
        if step.step == "stain" and levelled:
            raise ValueError(f"stain must come before {levelled}, which changes the colours that stains are told by")
        if step.step == "greyscale" or (step.step == "channels" and len(step.choose) == 1):
            grey = step.step
        levelled = step.step if step.step in _LEVELS else levelled


Steps = Annotated[list[Step], Field(max_length=MOST_STEPS), AfterValidator(check_order)]
ImageSteps = Annotated[list[ImageStep], Field(max_length=MOST_STEPS), AfterValidator(check_order)]

_STEPS: TypeAdapter[list[Step]] = TypeAdapter(Steps)


def read_steps(stored: Iterable[Mapping[str, Any]]) -> list[Step]:
    """Steps from JSON. Raises ValueError (pydantic's ValidationError) for what is none, or cannot follow."""
    return _STEPS.validate_python(list(stored))


def as_json(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """Steps as they are stored, with every parameter filled in."""
    return [step.model_dump(mode="json") for step in steps]


def image_steps(steps: Iterable[Step]) -> list[Any]:
    """Those that a model carries and whoever serves it applies: the steps of images, in their order."""
    return [step for step in steps if step.step in IMAGE_STEPS]


def canonical(steps: Iterable[Step]) -> str:
    """One text for the same steps: JSON with every parameter filled in and the version of each algorithm."""
    listed = [{**step.model_dump(mode="json"), "version": step.version} for step in steps]
    return json.dumps(listed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
