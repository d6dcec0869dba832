"""How objects are told apart: what an order, a recipe or a model may say about it, and what a job does it by."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

USUAL_MIN_AREA = 20  # px²


class ObjectsIn(BaseModel):
    """Rules for objects. What is left out is what the model recommends, or else the platform's choice; null is that."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["watershed", "components"] | None = Field(
        None,
        description="watershed: split where the foreground is narrow; components: what is connected is one object, as "
        "for cells in electron micrographs",
    )
    seed_threshold: float | None = Field(
        None, gt=0, lt=1, description="probability from which a pixel is surely inside: objects begin there alone"
    )
    border_class: str | None = Field(
        None, description="class of the pixels between objects: they belong to one, but none begins there"
    )
    median: int | None = Field(None, ge=0, le=8, description="radius of a median filter of the foreground, px")
    closing: int | None = Field(None, ge=0, le=32, description="radius of the closing of the foreground, px")
    fill_holes: int | None = Field(None, ge=0, le=1024, description="area of the largest hole that is filled, px²")
    smoothing: float | None = Field(None, ge=0, le=8, description="σ by which distances are smoothed, px")
    depth: float | None = Field(
        None, gt=0, le=64, description="by how much two halves must be wider than the neck between them at least, px"
    )
    relative_depth: float | None = Field(
        None, ge=0, lt=1, description="the same in proportion: by this share of the half-width of the narrower one"
    )
    min_area: int | None = Field(None, ge=1, description="smaller objects are left out, px²")
    max_area: int | None = Field(None, ge=1, description="larger objects are left out, px²")

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        check_areas(self.min_area or USUAL_MIN_AREA, self.max_area)
        return self


class ObjectParameters(BaseModel):
    """What the objects of a job are told apart by, everything filled in; see `shared.imaging.objects.rules`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    method: Literal["watershed", "components"] = "watershed"
    seed_threshold: float | None = None
    border_class: int | None = None  # its number
    median: int = 0
    closing: int = 0
    fill_holes: int = 200
    smoothing: float = 1.0
    depth: float = 0.3
    relative_depth: float = 0.06
    min_area: int = USUAL_MIN_AREA
    max_area: int | None = None

    @classmethod
    def fill(cls, *asked: ObjectsIn | None, classes: Sequence[str], closing: int) -> Self:
        """What is `asked` for, the first who says something about a field being right, and the rest as usual.

        Whoever says null wants what is usual, whatever others recommend. `classes`: the model's, the background
        first. `closing`: the radius it recommends, px.

        Raises:
            ValueError: there is no class of the border's name, or none is left besides it.
        """
        usual = cls(closing=closing).model_dump()
        chosen = dict(usual)
        for each in reversed([one for one in asked if one is not None]):
            said = each.model_dump(exclude_unset=True)
            chosen |= {name: usual[name] if value is None else value for name, value in said.items()}
        border = chosen.get("border_class")
        if border is not None:
            if border not in classes[1:] or len(classes) < 3:
                raise ValueError(f"the model has no class {border!r} between its objects: {', '.join(classes[1:])}")
            chosen["border_class"] = list(classes).index(border)
        return cls.model_validate(chosen)


def check_areas(least: int, most: int | None) -> None:
    """Raise ValueError if no object has such an area."""
    if most is not None and most < least:
        raise ValueError(f"no object has at least {least} and at most {most} px²: give both min_area and max_area")
