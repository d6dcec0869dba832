"""Orders to evaluate: what is refused before anything is stored."""

from typing import Any
from uuid import UUID

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.schemas.evaluation import EvaluateIn
from shared.schemas.jobs import JobIn


def make(**changes: Any) -> EvaluateIn:
    fields: dict[str, Any] = {"kind": "evaluate", "dataset_version": UUID(int=0), "model": "nuclei"}
    return EvaluateIn.model_validate(fields | changes)


def test_data_and_a_model_are_enough():
    order = make()
    assert (order.compare_with, order.split, order.threshold, order.outputs) == (None, None, None, [])


@pytest.mark.parametrize("changes", [{"dataset": "cohort-7"}, {"dataset_version": None}])
def test_images_are_named_one_way_and_not_two(changes):
    with pytest.raises(ValidationError, match="either dataset or dataset_version"):
        make(**changes)


@pytest.mark.parametrize(
    "changes", [{"threshold": 0}, {"threshold": 1}, {"split": "val"}, {"outputs": ["gif"]}, {"models": ["a", "b"]}]
)
def test_what_means_nothing_is_refused(changes):
    with pytest.raises(ValidationError):
        make(**changes)


@pytest.mark.parametrize("example", EvaluateIn.model_json_schema()["examples"])
def test_the_examples_are_orders(example):
    assert isinstance(TypeAdapter(JobIn).validate_python(example), EvaluateIn)


def test_one_coco_file_cannot_hold_the_answers_of_two_models():
    with pytest.raises(ValidationError, match="coco with compare_with"):
        make(outputs=["coco"], compare_with="other")
