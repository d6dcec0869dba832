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
