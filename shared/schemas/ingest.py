"""Wire shapes of ingest and preprocess: from files to images, and from a version to the next."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.schemas.datasets import FileName, Name
from shared.schemas.references import EXAMPLE_ID, DatasetReference
from shared.schemas.steps import Steps

LayoutName = Literal["auto", "images_masks", "dsb2018", "isbi", "ctc", "pannuke", "coco", "geojson", "plain"]
MaskKindName = Literal["auto", "instances", "binary", "classes"]
SplitName = Literal["train", "validation", "test"]


def check_names_a_version(dataset: str | None, dataset_version: UUID | None) -> None:
    """Raise ValueError unless exactly one of the two is given."""
    if (dataset is None) == (dataset_version is None):
        raise ValueError("name the images by either dataset or dataset_version")


class IngestIn(BaseModel):
    """Look into every file of a dataset version: which are images, which masks belong to them, are they sound.

    A version that is ready already, ordered to be read in another way, becomes a new version of the same files.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"kind": "ingest", "dataset": "cohort-7"},
                {"kind": "ingest", "dataset_version": EXAMPLE_ID, "layout": "images_masks", "masks": "binary"},
            ]
        },
    )

    kind: Literal["ingest"]
    dataset: DatasetReference | None = Field(None, description="a dataset's newest version, or `name@3`")
    dataset_version: UUID | None = Field(None, description="instead of `dataset`")
    layout: LayoutName = Field("auto", description="how files are images and masks; auto: told from their names")
    masks: MaskKindName = Field(
        "auto", description="what the numbers in mask files mean; auto: told for all from some of them"
    )
    splits: dict[FileName, SplitName] = Field(
        default_factory=dict,
        max_length=1000,
        description="folder, or name of an image → split; what the names of folders say (train, val, test) otherwise",
    )

    @model_validator(mode="after")
    def _names_its_images(self) -> Self:
        check_names_a_version(self.dataset, self.dataset_version)
        return self


class PreprocessIn(BaseModel):
    """Make a new dataset version from one that is ready, by steps. The same version and steps give the same version."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "kind": "preprocess",
                    "dataset": "cohort-7",
                    "steps": [{"step": "greyscale"}, {"step": "tile", "size": 512}, {"step": "split"}],
                }
            ]
        },
    )

    kind: Literal["preprocess"]
    dataset: DatasetReference | None = Field(None, description="a dataset's newest version, or `name@3`")
    dataset_version: UUID | None = Field(None, description="instead of `dataset`")
    steps: Annotated[Steps, Field(min_length=1)]
    into: Name | None = Field(None, description="dataset that gets the new version, made if new; by default the same")

    @model_validator(mode="after")
    def _names_its_images(self) -> Self:
        check_names_a_version(self.dataset, self.dataset_version)
        return self
