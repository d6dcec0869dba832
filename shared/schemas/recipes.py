"""Recipes: named training configurations, as data. A user starts one by name and overrides it field by field."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What an order is filled from."""

    title: str  # a line for the one who chooses
    source: str  # whose configuration it is
    fields: Fields  # of a train order
    small: Fields = field(default_factory=dict)  # on top of them where there is no GPU: minutes instead of days
    instances: Fields = field(default_factory=dict)  # on top of both where masks tell objects apart


_FULL = [64, 128, 256, 512, 1024]
_NARROW = [16, 32, 64, 128, 256]
_PUBLISHED_AUGMENTATION = {
    "turns": True,
    "flips": True,
    "scale": 0.1,
    "translate": 20,
    "shear": 10,
    "contrast": 0.2,
    "brightness": 20,
}
_ORIGINAL = {  # Ronneberger et al. 2015: unpadded convolutions, mirrored overlap tiles, two softmax classes
    "network": {"name": "unet", "widths": _FULL, "channels": 1, "classes": 2, "padding": "valid", "batch_norm": False},
    "crop": 388,
    "batch_size": 3,
    "optimiser": "adam",
    "learning_rate": 1e-4,
    "schedule": "plateau",
    "patience": 30,
}
_ORIGINAL_SMALL = {"network": {"widths": _NARROW}, "crop": 196, "learning_rate": 1e-3, "schedule": "cosine"}

RECIPES: dict[str, Recipe] = {
    "nuclei-starter": Recipe(
        title="nuclei in fluorescence and stained tissue; small, quick, a good place to start from",
        source="Overtile",
        fields={
            "network": {"name": "unet", "widths": _NARROW, "channels": 3, "classes": 1},
            "augmentation": {
                **_PUBLISHED_AUGMENTATION,
                "scale": 0.2,
                "translate": 0,
                "shear": 5,
                "colour": 0.1,
                "invert": 0.05,
            },
            "split": {"by": "ratio", "fraction": 0.06},
            "loss": {"cross_entropy": 1.0, "dice": 1.0},
            "crop": 256,
            "epochs": 50,
            "batch_size": 16,
            "optimiser": "adamw",
            "learning_rate": 3e-3,
            "weight_decay": 0.01,
            "schedule": "cosine",
        },
        small={"epochs": 12},
        instances={"masks": {"kind": "instances", "separate": True}, "loss": {"border": {"w0": 10, "sigma": 5}}},
    ),
    "unet-dsb2018": Recipe(
        title="nuclei of the 2018 Data Science Bowl: images scaled to 256 px, padded UNet with batch normalisation",
        source="published configuration: 256² resize, Adam 1e-4, batch 8, binary cross-entropy",
        fields={
            "network": {"name": "unet", "widths": _FULL, "channels": 3, "classes": 1},
            "augmentation": _PUBLISHED_AUGMENTATION,
            "resize": 256,
            "crop": 256,
            "epochs": 50,
            "batch_size": 8,
            "optimiser": "adam",
            "learning_rate": 1e-4,
            "schedule": "constant",
            "patience": 10,
        },
        small={"network": {"widths": _NARROW}, "learning_rate": 1e-3, "epochs": 12, "schedule": "cosine"},
    ),
    "unet-pannuke": Recipe(
        title="nuclei in H&E by type: 256 px patches, dropout, early stopping, softmax over classes",
        source="published configuration: 256², dropout, batch 16, early stopping; here for the classes of CoNSeP",
        fields={
            "network": {"name": "unet", "widths": _FULL, "channels": 3, "classes": 5, "dropout": 0.2},
            "masks": {"kind": "classes"},
            "split": {"by": "group", "fields": 2},
            "augmentation": {**_PUBLISHED_AUGMENTATION, "colour": 0.1},
            "loss": {"cross_entropy": 1.0, "dice": 1.0},
            "crop": 256,
            "epochs": 100,
            "batch_size": 16,
            "optimiser": "adam",
            "learning_rate": 1e-4,
            "schedule": "plateau",
            "patience": 15,
        },
        small={
            "network": {"widths": _NARROW, "dropout": 0.1},
            "learning_rate": 2e-3,
            "epochs": 12,
            "schedule": "cosine",
        },
    ),
    "unet-original-em": Recipe(
        title="cells in electron micrographs (ISBI 2012): the UNet of 2015, membranes weigh by their rarity",
        source="Ronneberger et al. 2015; published configuration: weighted cross-entropy, random affine, batch 3",
        fields={
            **_ORIGINAL,
            "augmentation": {"scale": 0.1, "rotate": 20, "shear": 10, "translate": 20, "elastic": 4},
            "loss": {"class_weights": "frequency"},
            "objects": {"method": "components"},
            "crops_per_image": 20,
            "epochs": 100,
        },
        small={**_ORIGINAL_SMALL, "crops_per_image": 6, "epochs": 16},
    ),
    "unet-original-gowt1": Recipe(
        title="nuclei of GOWT1 cells in fluorescence: the UNet of 2015, gaps between touching cells weigh more",
        source="Ronneberger et al. 2015; published configuration: weighted cross-entropy, random affine, batch 3",
        fields={
            **_ORIGINAL,
            "masks": {"kind": "instances", "separate": True},
            "objects": {"method": "components", "fill_holes": 1000},
            "augmentation": {
                "scale": 0.1,
                "rotate": 180,
                "shear": 10,
                "translate": 20,
                "contrast": 0.2,
                "brightness": 10,
                "elastic": 4,
            },
            "loss": {"class_weights": "frequency", "border": {"w0": 10, "sigma": 5}},
            "crops_per_image": 40,
            "epochs": 100,
        },
        small={**_ORIGINAL_SMALL, "crops_per_image": 30, "epochs": 12},
    ),
    "unet-stn-sstem": Recipe(
        title="cells in serial-section electron micrographs: a spatial transformer before a UNet with dropout",
        source="published configuration: 512², equalised, 20-fold augmentation, patience 10, threshold 0.6, closing",
        fields={
            "network": {"name": "unet_stn", "widths": _FULL, "channels": 1, "classes": 1},
            "preparation": {"equalise": True},
            "augmentation": _PUBLISHED_AUGMENTATION,
            "crop": 512,
            "crops_per_image": 20,
            "epochs": 100,
            "batch_size": 2,
            "optimiser": "adam",
            "learning_rate": 1e-4,
            "schedule": "constant",
            "patience": 10,
            "threshold": 0.6,
            "closing": 1,
            "objects": {"method": "components"},
        },
        small={
            "network": {"widths": _NARROW, "dropout": 0.1},
            "crop": 256,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "crops_per_image": 8,
            "epochs": 15,
            "schedule": "cosine",
        },
    ),
}


def fill_from_recipe(order: Mapping[str, Any]) -> dict[str, Any]:
    """The order with every field it leaves open taken from its recipe, groups field by field.

    A group of another kind than the recipe's (another network, another split) replaces the recipe's whole.

    Raises:
        ValueError: there is no such recipe, or `small` without one.
    """
    name = order.get("recipe")
    if name is None:
        if order.get("small", False) is not False:
            raise ValueError("small is a variant of a recipe: name the recipe")
        return dict(order)
    if not isinstance(name, str) or name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; there are: {', '.join(sorted(RECIPES))}")
    recipe = RECIPES[name]
    filled = _merge({"model": name}, recipe.fields)
    if order.get("small", False) is True:
        filled = _merge(filled, recipe.small)
    masks = order.get("masks")
    if isinstance(masks, Mapping) and masks.get("kind") == "instances":
        filled = _merge(filled, recipe.instances)
    return _merge(filled, order)


def _merge(below: Fields, above: Fields) -> dict[str, Any]:
    """`above` laid over `below`; groups that both have are merged, unless they name different kinds."""
    merged = deepcopy(dict(below))
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(value, Mapping) and isinstance(under, Mapping) and _same_kind(under, value):
            merged[key] = _merge(under, value)
        else:
            merged[key] = deepcopy(value)
    return merged


def _same_kind(one: Fields, other: Fields) -> bool:
    return all(one.get(key) == other[key] for key in ("name", "by", "kind") if key in other)
