"""The tiling contract: what a model version asks of those who cut images for it."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.schemas.objects import ObjectsIn
from shared.schemas.preparation import Percentiles, StainContract, check_levels, check_stain
from shared.schemas.quality import ImageStatistics
from shared.schemas.steps import ImageStep

BATCHES = 2  # the protocol from which on a request carries any number of tiles
MOST_STEPS = 100  # of a dataset made of a dataset made of a dataset
TOLERATED = 2  # steps of 1/255 that tiles may differ from the whole: a seam that nobody sees


class Exactness(StrEnum):
    """How a tiled result relates to the whole-image result."""

    EXACT = "exact"  # equal, up to the engine's rounding
    TOLERANT = "tolerant"  # within a measured bound
    UNTILEABLE = "untileable"  # only images of one tile


class Activation(StrEnum):
    """How the network's logits become probabilities."""

    SIGMOID = "sigmoid"  # one plane: the probability of class 1
    SOFTMAX = "softmax"  # a plane per class; background is class 0


class Precision(StrEnum):
    """Arithmetic of the engine. AUTO takes bf16 where the processor has it in hardware.

    INT8 computes most convolutions in int8, from a graph of their own, where the processor has that; else it is AUTO.
    """

    AUTO = "auto"
    BF16 = "bf16"
    F32 = "f32"
    INT8 = "int8"


class KnownAnswer(BaseModel):
    """What a freshly loaded model must answer, so that a broken engine is found before any user does.

    The input is `shared.imaging.probes.known_question(side, channels, seed)`.
    """

    model_config = ConfigDict(frozen=True)

    side: int = Field(description="side of the tile to send, px; core + 2 halo of the smallest core")
    seed: int
    step: int = Field(description="every step-th row and column of the answer is compared")
    answer: list[list[list[int]]] = Field(description="(planes, rows, columns) of uint8 probabilities, from torch fp32")
    tolerance: int = Field(description="largest allowed mean difference, in uint8 steps of the probability")


class WarpContract(BaseModel):
    """The second input of a network with a spatial transformer: the whole image, warped as its overview says.

    The overview is the prepared image (equalised, inverted, … as the contract asks), averaged to `overview × overview`
    px: pixel i of an axis of n px is the mean of pixels ⌊i·n / overview⌋ … ⌈(i+1)·n / overview⌉ − 1, rounded to uint8.
    `localiser.onnx` takes it, OVERVIEW uint8 (1, overview, overview, channels), and gives the transform, THETA float32
    (1, 3, 3).

    The warped pixel at (x, y) is read at (u/w, v/w) with (u, v, w) = THETA · (x, y, 1) and w at least 0.001,
    bilinearly, from the nearest border pixel where that lies outside. Coordinates run from −1 to 1 between the outer
    edges of the image: x = (2·column + 1) / width − 1 at a pixel's middle, y likewise.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["projective", "affine"] = Field(description="affine: the transform's last row is 0 0 1")
    overview: int = Field(ge=1, description="side of the overview, px")
    channels: int = Field(ge=2, description="channels of a tile: those of the image, then those of the warped image")


class Tiling(BaseModel):
    """Everything that must hold so that the tiled answer is the whole-image answer.

    A tile that owns a `core × core` square reads `core + 2 halo` on each side, its origin on the `grid`.
    """

    model_config = ConfigDict(frozen=True)

    channels: int = Field(ge=1, description="channels of the uint8 image: 1 grey, 3 RGB")
    classes: list[str] = Field(min_length=2, description="class names; the first is the background")
    activation: Activation
    halo: int = Field(ge=0, description="px on each side that the graph crops away")
    grid: int = Field(ge=1, description="read origins and read sides are multiples of this, px")
    cores: list[int] = Field(min_length=1, description="sides a tile's core may have, px, ascending")
    exactness: Exactness
    reach: int | None = Field(
        None, ge=0, description="px next to a cut that know of it, computed from the graph; none if all may know of it"
    )
    bound: int | None = Field(
        None, ge=0, description="of a tolerant model: largest difference seen of a tiled from a whole answer, in 1/255"
    )
    bytes_per_pixel: int | None = Field(
        None, ge=1, description="activations at their peak per pixel read, in 4-byte floats, computed from the graph"
    )
    precision: Precision = Precision.AUTO
    normalisation: str = Field(description="what the graph does to uint8 values first, for the reader")
    steps: list[ImageStep] = Field(
        [],
        max_length=MOST_STEPS,
        description="of preprocessing, which the images that were learnt from went through: done to the whole image "
        "before all else, in this order",
    )
    equalise: bool = Field(
        False, description="the whole image's histogram is equalised, each channel for itself, before tiles are cut"
    )
    stretch: Percentiles | None = Field(
        None, description="percentiles of each channel of the whole image that become 0 and 255 before tiles are cut"
    )
    stain: StainContract | None = Field(
        None, description="the whole image's stains are brought to a reference's, before all else"
    )
    invert: bool = Field(False, description="every value v becomes 255 − v before tiles are cut; the graph does not")
    warp: WarpContract | None = Field(None, description="what a tile carries besides the image, if anything")
    threshold: float = Field(0.5, gt=0, lt=1, description="recommended probability from which a pixel is foreground")
    closing: int = Field(0, ge=0, description="recommended radius of the closing of the mask, px; 0: none")
    objects: ObjectsIn | None = Field(None, description="recommended rules by which objects are told apart")
    protocol: int = Field(
        1, ge=1, description="what the served model understands. 1: a tile a request; 2: several, and views of them"
    )

    @property
    def takes_batches(self) -> bool:
        """Whether one request may carry several tiles, and ask for views of them. Models of before cannot."""
        return self.protocol >= BATCHES

    @property
    def tile_channels(self) -> int:
        """Channels of the uint8 tile that the graph takes."""
        return self.channels if self.warp is None else self.warp.channels

    @property
    def planes(self) -> int:
        """Probability planes of the answer: 1 for a sigmoid, one per class for a softmax."""
        return 1 if self.activation is Activation.SIGMOID else len(self.classes)

    def check_bound(self) -> None:
        """For whoever makes or imports a contract. Versions from before bounds were measured are read without one.

        Raises:
            ValueError: a tolerant model has no measured bound, or one that can be seen.
        """
        if self.exactness is Exactness.TOLERANT and (self.bound is None or self.bound > TOLERATED):
            raise ValueError(
                f"a tolerant model has a measured bound of at most {TOLERATED}/255, this one has "
                f"{'none' if self.bound is None else f'{self.bound}/255'}"
            )

    @model_validator(mode="after")
    def _lies_on_the_grid(self) -> Self:
        for side in (self.halo, *self.cores):
            if side % self.grid:
                raise ValueError(f"halo and cores must be multiples of the grid of {self.grid} px, got {side}")
        return self

    @model_validator(mode="after")
    def _promises_what_it_says(self) -> Self:
        if self.exactness is Exactness.EXACT and self.reach is not None and self.reach > self.halo:
            raise ValueError(f"not exact: the network looks {self.reach} px far, its halo is {self.halo} px")
        if self.bound is not None and self.exactness is not Exactness.TOLERANT:
            raise ValueError("no model but a tolerant one has a measured bound")
        return self

    @model_validator(mode="after")
    def _can_be_prepared(self) -> Self:
        check_levels(equalise=self.equalise, stretch=self.stretch)
        check_stain(self.stain, self.channels)
        return self

    @model_validator(mode="after")
    def _carries_the_image_twice(self) -> Self:
        if self.warp is not None and self.warp.channels != 2 * self.channels:
            raise ValueError(f"a tile carries image and warped image: {2 * self.channels}, not {self.warp.channels}")
        return self


class TilingContract(Tiling):
    """As it is stored with the model version: with what it takes to check a model server.

    A worker that is asked for something that it does not know cannot serve the model, and refuses it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    known_answer: KnownAnswer
    familiar: ImageStatistics | None = Field(
        None, description="what the images look like that were learnt from; versions of before do not know"
    )
