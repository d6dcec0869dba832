"""The tiling contract: what a model version asks of those who cut images for it."""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


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
    """Arithmetic of the engine. AUTO takes bf16 where the processor has it in hardware."""

    AUTO = "auto"
    BF16 = "bf16"
    F32 = "f32"


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


class Tiling(BaseModel):
    """Everything that must hold so that the tiled answer is the whole-image answer.

    A tile that owns a `core × core` square reads `core + 2 halo` on each side, its origin on the `grid`.
    """

    model_config = ConfigDict(frozen=True)

    channels: int = Field(ge=1, description="channels of the uint8 image the graph takes: 1 grey, 3 RGB")
    classes: list[str] = Field(min_length=2, description="class names; the first is the background")
    activation: Activation
    halo: int = Field(ge=0, description="px on each side that the graph crops away")
    grid: int = Field(ge=1, description="read origins and read sides are multiples of this, px")
    cores: list[int] = Field(min_length=1, description="sides a tile's core may have, px, ascending")
    exactness: Exactness
    precision: Precision = Precision.AUTO
    normalisation: str = Field(description="what the graph does to uint8 values first, for the reader")

    @property
    def planes(self) -> int:
        """Probability planes of the answer: 1 for a sigmoid, one per class for a softmax."""
        return 1 if self.activation is Activation.SIGMOID else len(self.classes)

    @model_validator(mode="after")
    def _lies_on_the_grid(self) -> Self:
        for side in (self.halo, *self.cores):
            if side % self.grid:
                raise ValueError(f"halo and cores must be multiples of the grid of {self.grid} px, got {side}")
        return self


class TilingContract(Tiling):
    """As it is stored with the model version: with what it takes to check a model server."""

    known_answer: KnownAnswer
