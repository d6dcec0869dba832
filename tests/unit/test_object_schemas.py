"""What an order may say about objects, and what becomes of what it leaves out."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.domain.orders.segment import fill_parameters
from shared.errors import Invalid
from shared.schemas.jobs import SegmentIn, SegmentParameters
from shared.schemas.objects import ObjectParameters, ObjectsIn
from shared.schemas.outputs import DEFAULT_OUTPUTS
from shared.schemas.training import TrainIn

CLASSES = ["background", "nucleus", "border"]


def fill(*asked: dict[str, Any] | None, closing: int = 0) -> ObjectParameters:
    rules = [None if each is None else ObjectsIn.model_validate(each) for each in asked]
    return ObjectParameters.fill(*rules, classes=CLASSES, closing=closing)


def order(**fields: Any) -> SegmentIn:
    return SegmentIn.model_validate({"kind": "segment", "dataset": "cohort-7", "model": "nuclei", **fields})


def test_nothing_said_is_the_platforms_choice():
    assert fill() == fill(None, None) == ObjectParameters()


def test_an_order_outweighs_the_models_recommendation():
    assert fill({"min_area": 5}, {"min_area": 50}).min_area == 5


def test_what_an_order_leaves_out_is_as_the_model_recommends():
    filled = fill({"min_area": 5}, {"method": "components", "min_area": 50, "depth": 3})
    assert (filled.method, filled.depth) == ("components", 3)


def test_who_says_null_wants_what_is_usual_whatever_the_model_recommends():
    assert fill({"seed_threshold": None, "max_area": None}, {"seed_threshold": 0.8, "max_area": 900}) == fill()


def test_a_closing_of_null_is_the_masks():
    assert fill({"closing": None}, {"closing": 9}, closing=4).closing == 4


def test_an_order_of_nothing_is_refused():
    with pytest.raises(ValidationError, match="at least 1 item"):
        order(outputs=[])


def test_objects_are_closed_as_the_models_mask_is():
    assert fill(closing=4).closing == 4


@pytest.mark.parametrize("place", [0, 1])
def test_whoever_says_something_about_the_closing_of_objects_is_heard(place):
    asked: list[dict[str, Any] | None] = [None, None]
    asked[place] = {"closing": 0}
    assert fill(*asked, closing=4).closing == 0


def test_a_border_class_is_known_by_its_name():
    assert fill({"border_class": "border"}).border_class == 2


@pytest.mark.parametrize("name", ["membrane", "background"])
def test_a_border_class_that_the_model_does_not_have_is_refused_with_those_it_has(name):
    with pytest.raises(ValueError, match=f"no class '{name}' between its objects: nucleus, border"):
        fill({"border_class": name})


def test_no_object_is_left_where_the_only_class_is_the_border():
    with pytest.raises(ValueError, match="no class 'nucleus'"):
        ObjectParameters.fill(ObjectsIn(border_class="nucleus"), classes=CLASSES[:2], closing=0)


def test_an_unknown_border_class_is_named_with_its_field():
    contract = {"classes": CLASSES}
    with pytest.raises(Invalid, match=r"^objects\.border_class: "):
        fill_parameters(contract, threshold=None, objects=ObjectsIn(border_class="x"), outputs=["mask"])


@pytest.mark.parametrize(
    "rules",
    [
        {"method": "magic"},
        {"seed_threshold": 0},
        {"seed_threshold": 1},
        {"median": 9},
        {"closing": -1},
        {"depth": 0},
        {"min_area": 0},
        {"max_area": 0},
        {"min_area": 20, "max_area": 10},
        {"max_area": 10},
        {"farthest": 3},
    ],
)
def test_rules_that_mean_nothing_are_refused(rules):
    with pytest.raises(ValidationError):
        order(objects=rules)


def test_areas_that_fit_no_object_are_refused_even_if_one_of_them_is_the_models():
    contract = {"classes": CLASSES, "objects": {"max_area": 100}}
    with pytest.raises(Invalid, match=r"^objects: .* at least 200 and at most 100 px²"):
        fill_parameters(contract, threshold=None, objects=ObjectsIn(min_area=200), outputs=["mask"])


def test_a_training_cannot_recommend_a_border_class_that_its_model_will_not_have():
    with pytest.raises(ValidationError, match="3 classes or more"):
        TrainIn.model_validate(
            {"kind": "train", "dataset": "cohort-7", "model": "nuclei", "objects": {"border_class": "border"}}
        )


def test_mask_overlay_zarr_and_table_are_made_unless_something_else_is_ordered():
    assert tuple(order().outputs) == DEFAULT_OUTPUTS == ("mask", "overlay", "ome_zarr", "table")


def test_an_output_that_nobody_can_make_is_refused():
    with pytest.raises(ValidationError, match="geojson"):
        order(outputs=["shapefile"])


def test_an_output_named_twice_is_made_once():
    outputs = order(outputs=["table", "mask", "table"]).outputs
    filled = fill_parameters({"classes": CLASSES}, threshold=None, objects=None, outputs=outputs)
    assert filled.outputs == ("table", "mask")


def test_a_job_of_before_makes_what_it_made_then():
    parameters = SegmentParameters.of({"parameters": {"threshold": 0.5, "closing": 2}})
    assert parameters.outputs == ("mask", "overlay", "ome_zarr")


def test_a_mask_alone_takes_no_objects():
    assert not SegmentParameters(threshold=0.5, outputs=("mask",)).wants_objects


@pytest.mark.parametrize("output", sorted({*DEFAULT_OUTPUTS, "geojson", "coco"} - {"mask"}))
def test_everything_else_does(output):
    assert SegmentParameters(threshold=0.5, outputs=("mask", output)).wants_objects


def test_an_image_with_a_mask_in_its_entry_is_scored_whatever_is_ordered():
    parameters = SegmentParameters.of({"parameters": {"threshold": 0.5, "outputs": []}}, {"model": 0, "mask": {}})
    assert parameters.is_scored
    assert parameters.wants_objects


def test_each_of_two_models_has_its_own_parameters():
    spec = {"parameters": {"threshold": 0.5}, "compared": {"parameters": {"threshold": 0.7}}}
    thresholds = [SegmentParameters.of(spec, {"model": number}).threshold for number in (0, 1)]
    assert thresholds == [0.5, 0.7]
