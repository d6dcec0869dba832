"""Wire shapes of models and their versions. "Model" always means a trained network."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.schemas.contracts import Tiling
from shared.schemas.pages import Page


class AliasIn(BaseModel):
    """Which version an alias shall stand for."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": 3}]})

    version: int = Field(ge=1, lt=2**31)


class ServingEngine(BaseModel):
    """What computes the answers, as it says itself."""

    engine: str
    version: str
    precision: str = Field(description="the arithmetic, such as bf16 or f32")
    device: str


class Serving(BaseModel):
    """What a worker measured when it loaded the version; differences in steps of 1/255 of the probability."""

    engine: ServingEngine | None = Field(description="null: the version is from before engines told their names")
    mean_difference: float = Field(description="of the known answer from that of torch in fp32, on average")
    largest_difference: int = Field(description="the same, at the worst pixel compared")
    seam: int | None = Field(
        description="largest difference of a tile from the four that make it up; null if the model is untileable"
    )
    beyond_halo: int | None = Field(
        description="largest change of a grid cell when all beyond its halo is changed; null if the model is untileable"
    )


class ModelVersionOut(BaseModel):
    """One trained network, exported, with its contract and its card."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    job_id: UUID | None
    number: int
    state: str
    digest: str
    contract: Tiling
    card: dict[str, Any]
    serving: Serving | None = Field(description="as it was found when the version was loaded; null before that")
    created_at: datetime


class ModelOut(BaseModel):
    """A name under which versions are registered; `versions` are the newest first."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    created_at: datetime
    versions: list[ModelVersionOut]
    aliases: dict[str, int] = Field(description="alias → number of the version it stands for")


class ModelsPage(Page):
    """Newest first."""

    items: list[ModelOut]
