"""Wire shapes of jobs: what a user orders and what the platform says about it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.schemas.evaluation import EvaluateIn
from shared.schemas.ingest import IngestIn, PreprocessIn
from shared.schemas.objects import ObjectParameters, ObjectsIn
from shared.schemas.outputs import DEFAULT_OUTPUTS, Output
from shared.schemas.pages import Page
from shared.schemas.references import EXAMPLE_ID, DatasetReference, ModelReference
from shared.schemas.training import TrainIn


class SegmentIn(BaseModel):
    """Segment every image of a dataset version."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"kind": "segment", "dataset": "cohort-7", "model": "nuclei@production"},
                {"kind": "segment", "dataset_version": EXAMPLE_ID, "model": "nuclei@3", "threshold": 0.5},
            ]
        },
    )

    kind: Literal["segment"]
    dataset: DatasetReference | None = Field(None, description="a dataset's newest version, or `name@3`")
    dataset_version: UUID | None = Field(None, description="instead of `dataset`")
    model: ModelReference
    threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="probability from which a pixel is foreground (sigmoid models); by default what the model "
        "version recommends",
    )
    test_time_augmentation: Literal["none", "flips", "all"] = Field(
        "none",
        description="predict every tile in several views and take the mean: `flips` takes 4 times as long, `all` "
        "(flips and quarter turns) 8 times",
    )
    empty_tiles: Literal["auto", "skip", "predict"] = Field(
        "auto",
        description="what to do where a large image shows no tissue: `auto` leaves it out of brightfield slides, which "
        "are mostly glass, and calls it background; `skip` also leaves out what is dark in fluorescence",
    )
    outputs: list[Output] = Field(
        list(DEFAULT_OUTPUTS),
        min_length=1,
        description="what is made of each image: its `mask` (classes), an `overlay` to look at, an `ome_zarr` of "
        "probabilities and objects, a `label_image`, an `ome_tiff` of objects, a `table` of objects (Parquet and CSV), "
        "`geojson` for QuPath; and of all images together `coco` and a `contact_sheet`",
    )
    objects: ObjectsIn | None = Field(None, description="how objects are told apart, where not as the model recommends")

    @model_validator(mode="after")
    def _names_its_images(self) -> Self:
        if (self.dataset is None) == (self.dataset_version is None):
            raise ValueError("name the images by either dataset or dataset_version")
        return self


class SegmentParameters(BaseModel):
    """What a segment job does its work by: the order with everything filled in. Jobs of before know of less."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    threshold: float
    closing: int = 0  # radius, px
    views: Literal[1, 4, 8] = 1  # in which each tile is predicted
    empty_tiles: Literal["auto", "skip", "predict"] = "predict"
    outputs: tuple[Output, ...] = ("mask", "overlay", "ome_zarr")
    objects: ObjectParameters = ObjectParameters()
    is_scored: bool = Field(False, exclude=True)  # against true masks: told by the image, not by the order

    @property
    def wants_objects(self) -> bool:
        """Whether anything that is wanted is about objects."""
        return self.is_scored or any(output != "mask" for output in self.outputs)

    @property
    def wants_overlay(self) -> bool:
        """Whether the objects are drawn on the image."""
        return not {"overlay", "contact_sheet"}.isdisjoint(self.outputs)

    @classmethod
    def of(cls, spec: Mapping[str, Any], entry: Mapping[str, Any] | None = None) -> Self:
        """Those of a job, from its row's `spec`; of two models that are compared the one of an image's `entry`."""
        entry = entry or {}
        return cls.model_validate({**choose_model(spec, entry)["parameters"], "is_scored": "mask" in entry})


def choose_model(spec: Mapping[str, Any], entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a job's `spec` with the model and the parameters that an image, by its `entry`, is segmented with."""
    chosen: Mapping[str, Any] = spec["compared"] if entry.get("model") == 1 else spec
    return chosen


JobIn = Annotated[SegmentIn | EvaluateIn | TrainIn | IngestIn | PreprocessIn, Field(discriminator="kind")]


class CauseOut(BaseModel):
    """Why something failed."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "input", "detail": "a.png: the file is empty; upload it again"}]}
    )

    type: str = Field(description="kind of the cause: input, missing, unavailable, lost, bug")
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


class SeamsOut(BaseModel):
    """How far tiled answers were from those without seams, measured by predicting windows across seams once more."""

    windows: int = Field(description="how many were compared")
    largest: int = Field(description="largest difference of a probability, steps of 1/255")
    mean: float = Field(description="mean difference, steps of 1/255")


class SummaryOut(BaseModel):
    """What the images of a segment or evaluate job have in common, once it has ended."""

    tiles: int = Field(description="that cover the images which are done")
    skipped_tiles: int = Field(description="of these, left out because they show no tissue")
    seams: SeamsOut | None = Field(description="null if no image had seams")
    objects: int = Field(0, description="found in all images together; 0 if none were asked for")
    flagged_images: int = Field(0, description="whose results should be looked at; each says why")


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


class ResultOut(BaseModel):
    """The dataset version that an ingest or a preprocess ends with."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    dataset_id: UUID
    number: int
    state: str = Field(description="sealed, ingesting, ready or invalid")


class JobDetailOut(JobOut):
    """A job with its progress and its timings."""

    progress: ProgressOut
    stages: list[StageOut]
    summary: SummaryOut | None = Field(description="of a segment or evaluate job that has ended")
    evaluation: dict[str, Any] | None = Field(
        None, description="of an evaluate job that has ended: the scores of its model or models, and of the baseline"
    )
    result: ResultOut | None = Field(description="of an ingest or a preprocess that has ended: its dataset version")
    note: dict[str, Any] = Field(description="latest remark of a running block, such as the epoch of a training")


class JobImageOut(BaseModel):
    """One image of a job."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    state: str = Field(description="pending, done, failed or cancelled")
    facts: dict[str, Any] = Field(
        description="height, width, mpp, tiles, redundancy and so on, once planned; where the model resizes, of "
        "the resized image, and `own` holds height and width of the image itself"
    )
    result: dict[str, Any] = Field(description="what was found, once done: foreground_fraction, seams; or problems")
    error: CauseOut | None


class ArtifactOut(BaseModel):
    """Something a job made, with a URL to fetch it from the store."""

    id: UUID
    image: str | None = Field(description="name of the image it belongs to; null: of the job")
    kind: str = Field(
        description="mask, overlay, probability, labels, table, geojson, coco, summary, contact_sheet, panel, "
        "manifest, model, report or thumbnail"
    )
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
