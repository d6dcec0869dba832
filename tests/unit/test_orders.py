"""Train orders: what is refused before anything is stored, and with which words."""

import json
from dataclasses import asdict
from typing import Any
from uuid import UUID

import pytest
from pydantic import TypeAdapter, ValidationError

from services.trainer.evaluation import Evaluation
from services.trainer.job import read_order, serving_of
from shared.schemas.contracts import TilingContract
from shared.schemas.jobs import JobIn, SegmentIn
from shared.schemas.preparation import StainContract
from shared.schemas.training import RatioSplit, TrainIn, UNetIn
from tests.rows import CONTRACT

INSTANCES = {"kind": "instances"}
OF_CLASSES: dict[str, Any] = {
    "masks": {"kind": "classes"},
    "network": {"classes": 3},
    "objects": {"border_class": "class 2"},
}
STN = {"name": "unet_stn"}
DAB = [[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]]  # haematoxylin and the brown of immunohistochemistry
EXCHANGED = DAB[::-1]
ONE_STAIN = [[0.65, 0.70, 0.29], [0.64, 0.71, 0.29]]


def make_order(**changes: Any) -> TrainIn:
    fields: dict[str, Any] = {"kind": "train", "dataset_version": UUID(int=0), "model": "nuclei"}
    return TrainIn.model_validate(fields | changes)


def test_an_order_of_data_and_a_name_is_enough() -> None:
    order = make_order()
    assert order.network == UNetIn()
    assert order.split == RatioSplit()
    assert (order.recipe, order.start, order.localiser, order.threshold) == (None, None, None, None)


@pytest.mark.parametrize("changes", [{"dataset": "cohort-7"}, {"dataset_version": None}])
def test_images_are_named_one_way_and_not_two(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="either dataset or dataset_version"):
        make_order(**changes)


def test_images_are_named_by_the_datasets_name_too() -> None:
    assert make_order(dataset_version=None, dataset="cohort-7@3").dataset == "cohort-7@3"


@pytest.mark.parametrize(("kind", "classes"), [("binary", 3), ("instances", 3), ("classes", 1), ("binary", 64)])
def test_classes_that_masks_do_not_tell_apart_are_refused(kind: str, classes: int) -> None:
    with pytest.raises(ValidationError, match=f"a network of {classes} classes does not fit masks of kind {kind}"):
        make_order(network={"classes": classes}, masks={"kind": kind})


@pytest.mark.parametrize(
    ("kind", "classes"), [("binary", 1), ("binary", 2), ("instances", 1), ("instances", 2), ("classes", 2)]
)
def test_classes_that_masks_tell_apart_are_taken(kind: str, classes: int) -> None:
    assert make_order(network={"classes": classes}, masks={"kind": kind}).network.classes == classes


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"loss": {"border": {}}}, "loss.border needs masks of kind instances"),
        ({"loss": {"border": {}}, "masks": {"kind": "classes"}, "network": {"classes": 2}}, "needs masks of kind inst"),
        ({**OF_CLASSES, "masks": INSTANCES, "network": {"classes": 2}}, "border_class needs masks of kind classes"),
        ({**OF_CLASSES, "network": {"classes": 2}}, "and a network of 3 classes or more"),
        ({**OF_CLASSES, "objects": {"border_class": "border"}}, "calls its classes 'class 1' … 'class 2'"),
        ({"localiser": {}}, "only a unet_stn has a localiser to teach"),
        ({"localiser": {}, "network": {"name": "unet_plus_plus"}}, "only a unet_stn"),
        ({"masks": {"separate": True}}, "separate needs masks of kind instances"),
        ({"masks": {"kind": "classes", "separate": True}}, "separate needs masks of kind instances"),
        ({"masks": {**INSTANCES, "foreground": "zero"}}, "'zero' is for binary masks"),
        ({"preparation": {"equalise": True, "stretch": [1, 99]}}, "equalise and stretch exclude each other"),
        ({"preparation": {"stretch": [99, 1]}}, "percentiles rise from 0 at least to 100 at most, got 99 and 1"),
        ({"preparation": {"stretch": [-1, 99]}}, "percentiles rise"),
        ({"preparation": {"stretch": [1, 101]}}, "percentiles rise"),
        ({"preparation": {"stretch": [5, 5]}}, "percentiles rise"),
        ({"preparation": {"stain": {}}, "network": {"channels": 1}}, "stain needs a network of 3 channels"),
        ({"preparation": {"stain": {"reference": EXCHANGED}}}, "absorbs more red than the second; exchange them"),
        ({"preparation": {"stain": {"reference": ONE_STAIN}}}, "less than 10° apart: they are one"),
        ({"preparation": {"stain": {"concentrations": [1, 0]}}}, "greater than 0"),
        ({"preparation": {"stain": {"method": "reinhard"}}}, "macenko"),
        ({"loss": {"cross_entropy": 0}}, "a loss needs a term: cross_entropy or dice"),
        ({"loss": {"cross_entropy": 0, "dice": 1, "border": {}}, "masks": INSTANCES}, "weighs the cross-entropy"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_reason(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        make_order(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": {"border": {"w0": 3}}, "masks": INSTANCES},
        {"localiser": {"epochs": 2}, "network": STN},
        {"masks": {**INSTANCES, "separate": True}},
        {"masks": {"foreground": "zero"}},
        {"preparation": {"stretch": [0, 99.5], "invert": True}},
        {"preparation": {"stain": {"reference": DAB, "concentrations": [1.2, 0.9]}, "equalise": True}},
        {"loss": {"cross_entropy": 0, "dice": 1}},
        {"start": {"model": "nuclei@production", "freeze_encoder": True}},
        {"split": {"by": "list", "validation": ["images/a.png"]}},
    ],
)
def test_what_fits_together_is_taken(changes: dict[str, Any]) -> None:
    assert_within(changes, make_order(**changes).model_dump(mode="json"))


@pytest.mark.parametrize(
    "preparation",
    [
        {"equalise": True},
        {"stretch": [0, 99.5], "invert": True},
        {"stain": {"reference": DAB, "concentrations": [1.2, 0.9]}},
    ],
)
def test_whoever_serves_the_model_prepares_images_as_they_were_learnt_from(preparation: dict[str, Any]) -> None:
    order = make_order(preparation=preparation)
    serving = asdict(serving_of(order, Evaluation(0.5, [])))
    stored = TilingContract.model_validate({**CONTRACT.model_dump(), **serving}).model_dump_json()
    contract, asked = TilingContract.model_validate_json(stored), order.preparation
    assert (contract.stain, contract.equalise) == (asked.stain, asked.equalise)
    assert (contract.stretch, contract.invert) == (asked.stretch, asked.invert)


def test_a_contract_that_asks_for_new_levels_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="equalise and stretch exclude each other"):
        TilingContract.model_validate({**CONTRACT.model_dump(), "equalise": True, "stretch": [1, 99]})


def test_a_contract_that_restains_grey_images_is_refused() -> None:
    with pytest.raises(ValidationError, match="stain needs a network of 3 channels"):
        TilingContract.model_validate({**CONTRACT.model_dump(), "channels": 1, "stain": {}})


def test_a_stain_without_more_is_macenko_to_a_reference_of_haematoxylin_and_eosin() -> None:
    stain = make_order(preparation={"stain": {}}).preparation.stain
    assert stain == StainContract(
        method="macenko",
        reference=((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581)),
        concentrations=(1.9705, 1.0308),
    )


def assert_within(part: dict[str, Any], whole: dict[str, Any]) -> None:
    """Every value of the groups in `part` is that of `whole`."""
    for key, value in part.items():
        if isinstance(value, dict):
            assert_within(value, whole[key])
        else:
            assert whole[key] == value


@pytest.mark.parametrize(("level", "deep"), [(4, True), (2, False)])
def test_a_level_that_has_no_head_cannot_be_served(level: int, *, deep: bool) -> None:
    network = {"name": "unet_plus_plus", "widths": [4, 8, 16, 32], "serve_level": level, "deep_supervision": deep}
    with pytest.raises(ValidationError, match=f"a depth of 1 … 3 and needs deep_supervision, got {level}"):
        make_order(network=network)


def test_a_level_that_has_a_head_can_be_served() -> None:
    network = {"name": "unet_plus_plus", "widths": [4, 8, 16, 32], "serve_level": 3}
    assert make_order(network=network).network.model_dump()["serve_level"] == 3


def test_a_network_without_a_name_is_a_unet_and_a_split_without_one_is_by_ratio() -> None:
    order = make_order(network={"widths": [4, 8]}, split={"fraction": 0.4})
    assert (order.network, order.split) == (UNetIn(widths=[4, 8]), RatioSplit(fraction=0.4))


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 3},
        {"network": {"depth": 3}},
        {"loss": {"focal": 1}},
        {"network": {"name": "unet_stn", "padding": "valid"}},
        {"split": {"by": "ratio", "fields": 2}},
    ],
)
def test_a_misspelt_or_foreign_field_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        make_order(**changes)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("learning_rate", 0),
        ("threshold", 0),
        ("threshold", 1),
        ("crop", 31),
        ("closing", -1),
        ("seed", 2**31),
        ("network", {"widths": [64]}),
        ("network", {"dropout": 1}),
        ("network", {"name": "resnet"}),
        ("split", {"fraction": 1}),
        ("split", {"by": "list", "validation": []}),
        ("split", {"by": "list", "validation": ["../a.png"]}),
        ("augmentation", {"rotate": 181}),
        ("model", "a b"),
        ("start", {"model": "nuclei@"}),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refusal:
        make_order(**{field: value})
    assert {error["loc"][0] for error in refusal.value.errors()} == {field}


@pytest.mark.parametrize("order", [None, "train", [1]])
def test_what_is_no_object_is_no_order(order: Any) -> None:
    with pytest.raises(ValidationError, match="valid dictionary"):
        TrainIn.model_validate(order)


@pytest.mark.parametrize(("classes", "kind"), [(1, "binary"), (4, "classes")])
def test_an_order_from_before_there_were_recipes_is_still_read(classes: int, kind: str) -> None:
    network = {"name": "unet", "widths": [4, 8], "channels": 3, "classes": classes}
    old = {"kind": "train", "model": "nuclei", "network": network, "validation_fraction": 0.3, "epochs": 7, "seed": 1}
    order = read_order({"parameters": old, "dataset_version": {"id": str(UUID(int=5))}})
    assert (order.split, order.masks.kind) == (RatioSplit(fraction=0.3), kind)
    assert (order.epochs, order.seed, order.network.classes, order.dataset_version) == (7, 1, classes, UUID(int=5))


@pytest.mark.parametrize("kind", [TrainIn, SegmentIn])
def test_the_examples_in_the_documentation_are_orders(kind: type[TrainIn | SegmentIn]) -> None:
    schema = kind.model_json_schema()
    assert len(schema["examples"]) == 2
    for example in schema["examples"]:
        order = TypeAdapter(JobIn).validate_json(json.dumps(example))
        assert isinstance(order, kind)


def test_the_documentation_shows_every_network_and_every_field() -> None:
    schema = TypeAdapter(JobIn).json_schema()
    shapes, train = schema["$defs"], schema["$defs"]["TrainIn"]
    assert set(train["properties"]) == set(TrainIn.model_fields)
    names = {"unet": "UNetIn", "unet_stn": "UNetStnIn", "unet_plus_plus": "UNetPlusPlusIn"}
    assert train["properties"]["network"]["discriminator"]["mapping"] == {
        name: f"#/$defs/{shape}" for name, shape in names.items()
    }
    assert set(names.values()) <= set(shapes)


def test_the_documentation_asks_for_no_more_than_a_request_of_one_line_has() -> None:
    assert TrainIn.model_json_schema()["required"] == ["kind"]


def test_a_model_of_classes_may_recommend_one_of_them_as_the_border() -> None:
    order = make_order(**OF_CLASSES)
    assert order.objects is not None
    assert order.objects.border_class == "class 2"
