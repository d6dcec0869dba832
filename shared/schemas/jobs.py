"""Wire shapes of jobs: what a user orders and what the platform says about it."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.schemas.datasets import Name
from shared.schemas.pages import Page

EXAMPLE_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

ModelReference = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(@[0-9]{1,9})?$",
        description="`name` for the newest ready version, `name@3` for version 3",
        examples=["nuclei@3"],
    ),
]


class SegmentIn(BaseModel):
    """Segment every image of a dataset version."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"kind": "segment", "dataset_version": EXAMPLE_ID, "model": "nuclei@3", "threshold": 0.5}]
        },
    )

    kind: Literal["segment"]
    dataset_version: UUID
    model: ModelReference
    threshold: float = Field(
        0.5, gt=0, lt=1, description="probability from which a pixel is foreground (sigmoid models)"
    )


class UNetIn(BaseModel):
    """A padded UNet with batch normalisation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["unet"] = "unet"
    widths: list[Annotated[int, Field(ge=1, le=2048)]] = Field(
        [64, 128, 256, 512, 1024], min_length=2, max_length=7, description="channels per level, the deepest last"
    )
    channels: Literal[1, 3] = 3
    classes: int = Field(1, ge=1, le=64, description="1: one sigmoid plane; more: a softmax with background as class 0")


class TrainIn(BaseModel):
    """Train a network on a dataset version with `images/…` and `masks/…` of the same names, and register it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "kind": "train",
                    "dataset_version": EXAMPLE_ID,
                    "model": "nuclei",
                    "network": {"name": "unet", "widths": [32, 64, 128, 256]},
                    "epochs": 40,
                }
            ]
        },
    )

    kind: Literal["train"]
    dataset_version: UUID
    model: Name = Field(description="name under which the new version is registered")
    network: UNetIn = Field(default_factory=UNetIn)
    epochs: int = Field(20, ge=1, le=10_000)
    batch_size: int = Field(8, ge=1, le=1024)
    crop: int = Field(256, ge=32, le=2048, description="side of the random training crops, px")
    learning_rate: float = Field(1e-4, gt=0, le=1)
    validation_fraction: float = Field(0.2, gt=0, lt=1, description="share of the images kept for validation")
    seed: int = Field(0, ge=0, lt=2**31)


JobIn = Annotated[SegmentIn | TrainIn, Field(discriminator="kind")]


class CauseOut(BaseModel):
    """Why something failed."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "input", "detail": "a.png: the file is empty; upload it again"}]}
    )

    type: str = Field(description="kind of the cause: input, unavailable, lost, bug")
    detail: str = Field(description="what happened and what to do about it")


class StageOut(BaseModel):
    """One stage of a job, summed over its blocks."""

    stage: str
    blocks: int
    done: int
    wall_seconds: float = Field(description="from the first claim to the last commit")
    busy_seconds: dict[str, float] = Field(description="seconds spent per step, summed over blocks (they overlap)")


class ProgressOut(BaseModel):
    """Blocks known so far; planning adds more."""

    blocks: int
    done: int
    failed: int
    images: int
    images_done: int
    images_failed: int


class JobOut(BaseModel):
    """A job as it stands now."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: str
    state: str = Field(description="queued, running, cancelling, succeeded, partial, failed or cancelled")
    spec: dict[str, Any] = Field(description="immutable snapshot of what was ordered, references resolved")
    error: CauseOut | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobDetailOut(JobOut):
    """A job with its progress and its timings."""

    progress: ProgressOut
    stages: list[StageOut]
    note: dict[str, Any] = Field(description="latest remark of a running block, such as the epoch of a training")


class JobImageOut(BaseModel):
    """One image of a job."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    state: str = Field(description="pending, done, failed or cancelled")
    facts: dict[str, Any] = Field(description="height, width, mpp and so on, once planned")
    error: CauseOut | None


class ArtifactOut(BaseModel):
    """Something a job made, with a URL to fetch it from the store."""

    id: UUID
    image: str | None = Field(description="name of the image it belongs to; null: of the job")
    kind: str = Field(description="mask, overlay, probability, manifest or model")
    name: str = Field(description="relative path to store it under; unique in the job")
    media_type: str
    bytes: int
    sha256: str
    url: str


class JobsPage(Page):
    """Newest first."""

    items: list[JobOut]


class JobImagesPage(Page):
    """In the order of the dataset version."""

    items: list[JobImageOut]


class ArtifactsPage(Page):
    """In the order they were made."""

    items: list[ArtifactOut]
