"""The kinds of steps, a class each; `shared.schemas.steps` says how they follow one another."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.schemas.preparation import StainContract

VARIANTS = 20  # of an image in the augmented set, itself included

Text = Annotated[str, Field(min_length=1, max_length=500)]
ClassNumber = Annotated[int, Field(ge=0, le=255)]


class _Step(BaseModel):
    """What all steps have in common. Who meets a step or a parameter that is not known refuses it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[int] = 1  # of the algorithm: counted up when the same parameters begin to give other pixels


class ResizeStep(_Step):
    """Another size: means of areas along an axis that shrinks, bilinear along one that grows; masks: nearest pixel."""

    step: Literal["resize"]
    side: int | None = Field(None, ge=1, le=16_384, description="height and width become this, px")
    scale: float | None = Field(None, ge=0.01, le=16, description="instead: both sides times this")
    mpp: float | None = Field(
        None, gt=0.01, lt=100, description="instead: µm per pixel; needs images that say their own"
    )

    @model_validator(mode="after")
    def _has_one_size(self) -> Self:
        if sum(given is not None for given in (self.side, self.scale, self.mpp)) != 1:
            raise ValueError("resize needs one of side, scale and mpp")
        return self


class ChannelsStep(_Step):
    """Choose one channel, which becomes grey, or three, which become red, green and blue."""

    step: Literal["channels"]
    choose: list[int | Text] = Field(min_length=1, max_length=3, description="names, or numbers from 0 on")

    @model_validator(mode="after")
    def _makes_a_picture(self) -> Self:
        if len(self.choose) == 2:
            raise ValueError("choose one channel or three: networks take grey or RGB")
        if any(isinstance(each, int) and each < 0 for each in self.choose):
            raise ValueError("channels are numbered from 0 on")
        return self


class GreyscaleStep(_Step):
    """The mean of red, green and blue."""

    step: Literal["greyscale"]


class InvertStep(_Step):
    """Every value v becomes 255 − v."""

    step: Literal["invert"]


class NormaliseStep(_Step):
    """The values of each channel spread linearly over 0 … 255, by what they are in the whole image."""

    step: Literal["normalise"]
    method: Literal["min_max", "percentile", "z_score"] = Field(
        description="what becomes 0 and 255: the smallest and the largest value; two percentiles; or the mean minus "
        "and plus `deviations` standard deviations"
    )
    low: float = Field(1.0, ge=0, lt=100, description="of percentile")
    high: float = Field(99.0, gt=0, le=100, description="of percentile")
    deviations: float = Field(3.0, gt=0, le=100, description="of z_score: the mean becomes 127.5")

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"percentiles rise, got low {self.low:g} and high {self.high:g}")
        return self


class EqualiseStep(_Step):
    """Histogram equalisation of the whole image, each channel for itself."""

    step: Literal["equalise"]


class ClaheStep(_Step):
    """Contrast-limited adaptive histogram equalisation, each channel for itself."""

    step: Literal["clahe"]
    tiles: int = Field(8, ge=1, le=16, description="regions that each side of the image is divided into")
    clip: float = Field(
        2.0, ge=1, le=256, description="how often a value may count, in multiples of its share if all were as frequent"
    )


class StainStep(StainContract):
    """Stain normalisation of pictures in transmitted light."""

    version: ClassVar[int] = 1

    step: Literal["stain"]


class MedianStep(_Step):
    """The median of the square around each pixel, each channel for itself."""

    step: Literal["median"]
    radius: int = Field(1, ge=1, le=5, description="px; the square's side is 2 radius + 1")


class InvertMaskStep(_Step):
    """Background becomes foreground, and foreground background. The result is a binary mask."""

    step: Literal["invert_mask"]


class OpeningStep(_Step):
    """Parts of objects that are narrower than a disc are removed, each object or class for itself."""

    step: Literal["opening"]
    radius: int = Field(1, ge=1, le=100, description="px")


class ClosingStep(_Step):
    """Gaps in objects that are narrower than a disc become part of them, each object or class for itself."""

    step: Literal["closing"]
    radius: int = Field(1, ge=1, le=100, description="px")


class BoundaryStep(_Step):
    """The boundaries of objects, between each other too; of masks without objects those of classes."""

    step: Literal["boundary"]
    width: int = Field(1, ge=1, le=20, description="px on a side")
    side: Literal["inner", "outer", "thick"] = Field(
        "inner", description="in the objects; in the background around them, and where they touch; on both sides"
    )
    output: Literal["binary", "class"] = Field(
        "binary", description="a binary mask of boundaries; or a class of its own beside the interiors'"
    )
    number: int = Field(2, ge=1, le=255, description="of that class")


class FillStep(_Step):
    """Fill regions: the holes of objects, or everything between drawn contours."""

    step: Literal["fill"]
    mode: Literal["holes", "contours"] = Field(
        "holes", description="contours: foreground is what parts the objects, such as membranes"
    )
    area: int | None = Field(None, ge=1, description="of holes: larger ones stay, px; by default none stays")
    border: Literal["keep", "drop"] = Field(
        "keep", description="of contours: what becomes of regions that the image's border cuts"
    )


class MergeStep(_Step):
    """Objects are joined to a binary mask."""

    step: Literal["merge"]


class MapClassesStep(_Step):
    """Other numbers for classes."""

    step: Literal["map_classes"]
    mapping: dict[ClassNumber, ClassNumber] = Field(min_length=1, max_length=256, description="old → new")
    others: Literal["background", "keep"] = Field("background", description="what becomes of classes not named")


class TileStep(_Step):
    """Cut images into tiles. All tiles of an image share its group."""

    step: Literal["tile"]
    size: int = Field(256, ge=16, le=8192, description="side, px")
    overlap: int = Field(0, ge=0, description="px that neighbours share, less than the size")
    edge: Literal["inside", "cut", "drop"] = Field(
        "inside",
        description="where a tile would leave the image: moved back inside, so that it overlaps more; cut to what "
        "there is; left out. An image smaller than a tile is one tile in its own size, but for drop",
    )
    least_foreground: float = Field(0.0, ge=0, le=1, description="share of a tile's mask; tiles with less are left out")
    only_tissue: bool = Field(False, description="tiles of bare glass are left out, where a picture shows glass")

    @model_validator(mode="after")
    def _goes_on(self) -> Self:
        if self.overlap >= self.size:
            raise ValueError(f"tiles of {self.size} px overlap by less than that, not by {self.overlap} px")
        return self


class SplitStep(_Step):
    """Which images train, validate and test. A group is never parted; an image without one is a group by itself."""

    step: Literal["split"]
    by: Literal["ratio", "list", "group"] = "ratio"
    validation: float = Field(0.2, ge=0, lt=1, description="of ratio: share of the images")
    test: float = Field(0.0, ge=0, lt=1, description="of ratio: share of the images")
    seed: int = Field(0, ge=0, description="of ratio")
    validation_names: list[Text] = Field([], max_length=100_000, description="of list: images; of group: groups")
    test_names: list[Text] = Field([], max_length=100_000, description="of list: images; of group: groups")

    @model_validator(mode="after")
    def _leaves_something_to_train(self) -> Self:
        if self.by == "ratio" and self.validation + self.test >= 1:
            raise ValueError("validation and test leave nothing to train on: together they are less than 1")
        if self.by != "ratio" and not (self.validation_names or self.test_names):
            raise ValueError(f"a split by {self.by} names what validates or tests: validation_names, test_names")
        twice = set(self.validation_names) & set(self.test_names)
        if twice:
            raise ValueError(f"{min(twice)} is to validate and to test; name it once")
        return self


class AugmentStep(_Step):
    """Twenty variants of each training image, itself the first. Images that validate or test pass unchanged."""

    step: Literal["augment"]
    seed: int = Field(0, ge=0)
    variants: int = Field(VARIANTS, ge=1, le=VARIANTS, description="the first so many of the twenty")
