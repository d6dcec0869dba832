"""Recipes: what a request of one line becomes."""

import copy
from typing import Any
from uuid import UUID

import pytest
import torch
from pydantic import ValidationError

from services.trainer.job import read_order
from services.trainer.networks import Network, build_network
from services.trainer.starting import refuse_unworkable
from shared.schemas import recipes
from shared.schemas.recipes import RECIPES, Recipe, fill_from_recipe
from shared.schemas.training import TrainIn, UNetIn, UNetStnIn

ORIGINALS = ["unet-original-em", "unet-original-gowt1"]


def order_from(recipe: str, **changes: Any) -> TrainIn:
    """What a user would send, and no more."""
    return TrainIn.model_validate({"kind": "train", "recipe": recipe, "dataset": "cohort-7", **changes})


def build_unfilled(order: TrainIn) -> Network:
    """The ordered network, without memory and without random numbers."""
    with torch.device("meta"):
        return build_network(order.network)


def count_weights(order: TrainIn) -> int:
    return sum(weight.numel() for weight in build_unfilled(order).parameters() if weight.requires_grad)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", RECIPES)
class TestEveryRecipe:
    def test_a_request_of_one_line_is_an_order_that_can_work(self, name: str, small: bool) -> None:
        order = order_from(name, small=small)
        assert (order.model, order.recipe, order.small) == (name, name, small)
        refuse_unworkable(order, build_unfilled(order))

    def test_every_field_it_names_arrives(self, name: str, small: bool) -> None:
        order, recipe = order_from(name, small=small).model_dump(), RECIPES[name]
        for key, wanted in recipe.fields.items():
            if not small or key not in recipe.small:
                assert _part(order[key], wanted) == wanted
        if small:
            for key, wanted in recipe.small.items():
                assert _part(order[key], wanted) == wanted

    def test_an_order_that_was_filled_once_is_full(self, name: str, small: bool) -> None:
        order = order_from(name, small=small)
        assert TrainIn.model_validate(order.model_dump(mode="json")) == order

    def test_a_job_that_waits_keeps_its_order_when_the_recipe_changes(
        self, name: str, small: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order = order_from(name, small=small)
        monkeypatch.setattr(recipes, "RECIPES", {})
        spec = {"parameters": order.model_dump(mode="json"), "dataset_version": {"id": str(UUID(int=3))}}
        kept = read_order(spec)
        told_once = {"recipe", "small", "dataset", "dataset_version"}
        assert kept.model_dump(exclude=told_once) == order.model_dump(exclude=told_once)
        assert kept.dataset_version == UUID(int=3)

    def test_filling_changes_neither_the_recipe_nor_the_order(self, name: str, small: bool) -> None:
        before = copy.deepcopy(RECIPES)
        order = {"kind": "train", "recipe": name, "small": small, "network": {"dropout": 0.4}, "split": {"by": "ratio"}}
        sent = copy.deepcopy(order)
        filled = fill_from_recipe(order)
        filled["network"]["widths"].append(7)
        filled["augmentation"]["turns"] = None
        filled["split"]["fraction"] = 0.9
        assert (before, sent) == (RECIPES, order)

    def test_says_what_it_is_for_and_whose_it_is(self, name: str, small: bool) -> None:
        assert len(RECIPES[name].title) > 20
        assert RECIPES[name].source


def _part(value: Any, wanted: Any) -> Any:
    """Of a group the fields that are wanted, of anything else itself."""
    return {key: value[key] for key in wanted} if isinstance(wanted, dict) else value


@pytest.mark.parametrize("name", RECIPES)
def test_the_small_variant_is_less_work(name: str) -> None:
    full, small = order_from(name), order_from(name, small=True)
    assert count_weights(small) <= count_weights(full)
    assert small.epochs < full.epochs


# What was published.


def test_dsb2018_is_scaled_to_256_px_and_learns_as_published() -> None:
    order = order_from("unet-dsb2018")
    assert (order.resize, order.crop, order.batch_size) == (256, 256, 8)
    assert (order.optimiser, order.learning_rate, order.schedule) == ("adam", 1e-4, "constant")
    assert (order.loss.cross_entropy, order.loss.dice, order.loss.class_weights) == (1, 0, "none")
    assert order.loss.border is None
    assert isinstance(order.network, UNetIn)
    assert (order.network.classes, order.network.padding, order.network.batch_norm) == (1, "same", True)


def test_pannuke_tells_five_classes_apart_drops_out_and_stops_early() -> None:
    order = order_from("unet-pannuke")
    assert (order.crop, order.batch_size, order.masks.kind, order.network.classes) == (256, 16, "classes", 5)
    assert isinstance(order.network, UNetIn)
    assert order.network.dropout > 0
    assert order.patience is not None
    assert order.patience < order.epochs


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_originals_convolve_without_padding_and_weigh_classes_by_their_rarity(name: str) -> None:
    order = order_from(name)
    assert isinstance(order.network, UNetIn)
    assert (order.network.padding, order.network.batch_norm, order.network.classes) == ("valid", False, 2)
    assert (order.loss.class_weights, order.batch_size, order.crop) == ("frequency", 3, 388)
    affine = order.augmentation
    assert min(affine.scale, affine.rotate, affine.shear, affine.translate) > 0


def test_only_the_recipe_for_numbered_nuclei_weighs_and_parts_the_gaps_between_them() -> None:
    membranes, nuclei = (order_from(name) for name in ORIGINALS)
    assert (membranes.loss.border, membranes.masks.kind) == (None, "binary")
    assert (nuclei.masks.kind, nuclei.masks.separate) == ("instances", True)
    assert nuclei.loss.border is not None
    assert (nuclei.loss.border.w0, nuclei.loss.border.sigma) == (10, 5)


def test_the_starter_parts_and_weighs_gaps_where_masks_number_objects() -> None:
    plain, numbered = order_from("nuclei-starter"), order_from("nuclei-starter", masks={"kind": "instances"})
    assert plain.loss.border is None
    assert numbered.loss.border is not None
    assert (numbered.masks.separate, numbered.loss.border.w0, numbered.loss.border.sigma) == (True, 10, 5)
    assert numbered.loss.dice == plain.loss.dice


def test_sstem_equalises_warps_multiplies_twentyfold_and_recommends_its_mask() -> None:
    order = order_from("unet-stn-sstem")
    assert isinstance(order.network, UNetStnIn)
    assert order.network.dropout > 0
    assert (order.crop, order.crops_per_image, order.patience) == (512, 20, 10)
    assert (order.preparation.equalise, order.threshold) == (True, 0.6)
    assert order.closing > 0


@pytest.mark.parametrize(
    ("name", "weights"), [("unet-dsb2018", 31_043_521), *((name, 31_030_658) for name in ORIGINALS)]
)
def test_a_full_network_has_exactly_the_published_number_of_weights(name: str, weights: int) -> None:
    assert count_weights(order_from(name)) == weights


# What the user says wins.


def test_fields_of_the_order_win_also_inside_the_groups() -> None:
    order = order_from("nuclei-starter", model="mine", epochs=3, loss={"dice": 0.5}, network={"widths": [8, 16]})
    recipe = order_from("nuclei-starter")
    assert (order.model, order.epochs, order.network.widths) == ("mine", 3, [8, 16])
    assert (order.loss.dice, order.loss.cross_entropy) == (0.5, recipe.loss.cross_entropy)
    changed = {"model", "epochs", "loss", "network"}
    assert order.model_dump(exclude=changed) == recipe.model_dump(exclude=changed)


def test_null_takes_back_what_the_recipe_set() -> None:
    order = order_from("unet-original-gowt1", loss={"border": None}, patience=None)
    assert (order.loss.border, order.loss.class_weights, order.patience) == (None, "frequency", None)


def test_what_a_small_variant_shrinks_can_still_be_ordered_otherwise() -> None:
    order = order_from("unet-dsb2018", small=True, epochs=7)
    assert (order.epochs, order.learning_rate) == (7, RECIPES["unet-dsb2018"].small["learning_rate"])


def test_another_network_or_split_replaces_the_recipes_whole() -> None:
    order = order_from("unet-pannuke", network={"name": "unet_plus_plus", "classes": 5}, split={"by": "ratio"})
    assert order.network.name == "unet_plus_plus"
    assert order.network.widths == [32, 64, 128, 256, 512]  # its own, not the recipe's
    assert order.split.model_dump() == {"by": "ratio", "fraction": 0.2}


def test_the_same_network_named_again_keeps_the_recipes_fields() -> None:
    assert order_from("unet-pannuke", network={"name": "unet", "dropout": 0.5}).network.classes == 5


def test_an_unknown_recipe_is_told_which_there_are() -> None:
    with pytest.raises(ValidationError, match=f"no recipe 'unet'; there are: {', '.join(sorted(RECIPES))}"):
        order_from("unet")


def test_a_recipe_that_is_no_name_is_refused_as_well() -> None:
    with pytest.raises(ValidationError, match="there is no recipe 3"):
        TrainIn.model_validate({"kind": "train", "recipe": 3, "dataset": "cohort-7"})


def test_small_without_a_recipe_is_refused() -> None:
    with pytest.raises(ValidationError, match="name the recipe"):
        TrainIn(kind="train", small=True, dataset_version=UUID(int=0), model="nuclei")


def test_an_order_without_a_recipe_stays_as_it_is() -> None:
    order = {"kind": "train", "model": "nuclei", "epochs": 3}
    assert fill_from_recipe(order) == order


def test_a_recipe_cannot_be_exchanged_for_another() -> None:
    with pytest.raises(AttributeError):
        RECIPES["nuclei-starter"].title = "mine"  # type: ignore[misc]  # that is the mistake
    assert isinstance(RECIPES["nuclei-starter"], Recipe)
