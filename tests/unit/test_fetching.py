"""From the names of a dataset version to pairs, and from checkpoints to weights."""

import pytest
import torch
from safetensors.torch import save

from services.trainer.fetching import find_pairs, load_weights
from shared.errors import Rejected
from shared.tables import DatasetFile
from shared.tables.datasets import FileRole


def make_files(*names: str) -> list[DatasetFile]:
    """As the platform stores them: below a folder `masks` is a mask."""
    return [
        DatasetFile(name=name, role=FileRole.MASK if "masks" in name.split("/")[:-1] else FileRole.IMAGE)
        for name in names
    ]


def pair_up(*names: str) -> dict[str, str]:
    """Image → mask, by name."""
    pairs = find_pairs(make_files(*names))
    assert all(name == image.name and image.role is FileRole.IMAGE for name, image, _ in pairs)
    return {name: mask.name for name, _, mask in pairs}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.png", "masks/a.png"),
        ("images/a.jpg", "masks/a.tif"),
        ("images/deep/er/a.png", "masks/deep/er/a.png"),
        ("cohort/images/a.png", "cohort/masks/a.png"),
        ("images/a.b.c.png", "masks/a.b.c.tiff"),
        ("images/ä ö.png", "masks/ä ö.png"),
    ],
)
def test_an_image_and_its_mask_differ_in_one_folder_and_in_the_suffix(image: str, mask: str) -> None:
    assert pair_up(image, mask) == {image: mask}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.png", "masks/b.png"),
        ("images/a.png", "masks/A.png"),
        ("images/a.png", "masks/one/a.png"),
        ("images/one/a.png", "masks/two/a.png"),
        ("one/images/a.png", "two/masks/a.png"),
        ("images/a.1.png", "masks/a.png"),
    ],
)
def test_other_names_are_no_pair(image: str, mask: str) -> None:
    with pytest.raises(Rejected, match="no image has a mask: name them alike"):
        find_pairs(make_files(image, mask))


def test_what_has_no_partner_is_left_out_and_the_order_is_kept() -> None:
    names = ["masks/b.png", "images/c.png", "images/b.png", "masks/c.png", "images/alone.png", "masks/lonely.png"]
    pairs = pair_up(*names)
    assert list(pairs.items()) == [("images/c.png", "masks/c.png"), ("images/b.png", "masks/b.png")]


def test_images_of_one_name_in_two_folders_have_a_mask_each() -> None:
    pairs = pair_up("images/one/a.png", "images/two/a.png", "masks/two/a.png", "masks/one/a.png")
    assert pairs == {"images/one/a.png": "masks/one/a.png", "images/two/a.png": "masks/two/a.png"}


@pytest.mark.parametrize("names", [[], ["images/a.png"], ["masks/a.png"]])
def test_nothing_to_learn_from_is_rejected_with_the_mend(names: list[str]) -> None:
    with pytest.raises(Rejected, match=r"`images/a.png` and `masks/a.png`"):
        find_pairs(make_files(*names))


def test_weights_are_read_in_full_precision_whatever_they_were_stored_in() -> None:
    values, steps = torch.tensor([0.5, -2.0]), torch.tensor(7)
    stored = {"half": values.half(), "brain": values.bfloat16(), "double": values.double(), "steps": steps}
    weights = load_weights(save(stored))
    assert {name: weight.dtype for name, weight in weights.items()} == {
        "half": torch.float32,
        "brain": torch.float32,
        "double": torch.float32,
        "steps": torch.int64,
    }
    assert all(torch.equal(weights[name], values) for name in ("half", "brain", "double"))
    assert torch.equal(weights["steps"], steps)
