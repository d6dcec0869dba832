"""Wire shapes of evaluations: a model version against masks, perhaps beside another."""

from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.schemas.ingest import SplitName, check_names_a_version
from shared.schemas.objects import ObjectsIn
from shared.schemas.outputs import Output
from shared.schemas.references import EXAMPLE_ID, DatasetReference, ModelReference


class EvaluateIn(BaseModel):
    """Segment the images of a dataset version that have masks, and compare what is found with these.

    The version must have been ingested. Images without a mask take no part; the report says which.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"kind": "evaluate", "dataset": "cohort-7", "model": "nuclei@production"},
                {
                    "kind": "evaluate",
                    "dataset_version": EXAMPLE_ID,
                    "model": "nuclei@4",
                    "compare_with": "nuclei@3",
                    "split": "test",
                },
            ]
        },
    )

    kind: Literal["evaluate"]
    dataset: DatasetReference | None = Field(None, description="a dataset's newest version, or `name@3`")
    dataset_version: UUID | None = Field(None, description="instead of `dataset`")
    model: ModelReference
    compare_with: ModelReference | None = Field(
        None, description="another model version that is scored on the same images; differences are `model` minus this"
    )
    split: SplitName | None = Field(None, description="take only the images of this split; by default all")
    threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="probability from which a pixel is foreground for `model`; by default what the version recommends. "
        "The other model keeps its own",
    )
    objects: ObjectsIn | None = Field(
        None, description="how `model` tells objects apart, where not as it recommends; the other keeps its own"
    )
    outputs: list[Output] = Field(
        default_factory=list,
        description="what is made of each image besides its scores, as in a segment job; by default nothing. `coco` is "
        "of one model alone: not with `compare_with`",
    )

    @model_validator(mode="after")
    def _names_its_images(self) -> Self:
        check_names_a_version(self.dataset, self.dataset_version)
        return self

    @model_validator(mode="after")
    def _collects_one_model(self) -> Self:
        if self.compare_with is not None and "coco" in self.outputs:
            raise ValueError(
                "coco with compare_with would be one file with two answers to every image: leave one of them out, or "
                "order an evaluation of each model"
            )
        return self
