"""From the names of a dataset version to images and their masks."""

import pytest

from services.trainer.learning_images import LearningImage, follow_dataset, match_names
from shared.errors import Rejected
from shared.schemas.training import ListSplit, RatioSplit, TrainIn
from shared.tables import DatasetFile, StoredObject
from shared.tables.datasets import FileRole


def make_files(*names: str) -> list[DatasetFile]:
    """As the platform stores them: below a folder `masks` is a mask."""
    return [
        DatasetFile(
            name=name,
            object=StoredObject(key=name),
            role=FileRole.MASK if "masks" in name.split("/")[:-1] else FileRole.IMAGE,
        )
        for name in names
    ]


def pair_up(*names: str) -> dict[str, str]:
    """Image → mask, by name."""
    found = match_names(make_files(*names))
    assert all(image.name == image.file.key for image in found)
    return {image.name: image.mask.key for image in found if image.mask}


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
    assert pair_up(image, mask) == {}


def test_what_has_no_partner_is_left_out_and_the_order_is_kept() -> None:
    names = ["masks/b.png", "images/c.png", "images/b.png", "masks/c.png", "images/alone.png", "masks/lonely.png"]
    pairs = pair_up(*names)
    assert list(pairs.items()) == [("images/c.png", "masks/c.png"), ("images/b.png", "masks/b.png")]


def test_images_of_one_name_in_two_folders_have_a_mask_each() -> None:
    pairs = pair_up("images/one/a.png", "images/two/a.png", "masks/two/a.png", "masks/one/a.png")
    assert pairs == {"images/one/a.png": "masks/one/a.png", "images/two/a.png": "masks/two/a.png"}


def test_two_masks_of_one_image_are_rejected_by_name() -> None:
    with pytest.raises(Rejected, match=r"masks/a.png and masks/a.tif are both masks"):
        match_names(make_files("images/a.png", "masks/a.png", "masks/a.tif"))


def order_by_dataset() -> TrainIn:
    split = {"by": "dataset", "fraction": 0.3}
    return TrainIn.model_validate({"kind": "train", "dataset": "d", "model": "m", "split": split})


def image(name: str, split: str | None, group: str | None = None) -> LearningImage:
    return LearningImage(name, StoredObject(key=name), None, split, group)


def test_the_validation_images_of_a_dataset_validate() -> None:
    images = [image("a", "train"), image("b", "validation"), image("c", None)]
    assert follow_dataset(order_by_dataset(), images).split == ListSplit(by="list", validation=["b"])


def test_a_dataset_without_splits_is_split_by_ratio() -> None:
    assert follow_dataset(order_by_dataset(), [image("a", None)]).split == RatioSplit(fraction=0.3)


def test_a_ratio_never_parts_a_group() -> None:
    order = TrainIn.model_validate({"kind": "train", "dataset": "d", "model": "m"})
    images = [image(f"{group}{number}", None, group) for group in "abcde" for number in range(4)]
    chosen = follow_dataset(order, images).split
    assert isinstance(chosen, ListSplit)
    assert len(chosen.validation) == 4
    assert len({name[0] for name in chosen.validation}) == 1


def test_a_ratio_of_images_without_groups_stays_as_ordered() -> None:
    order = TrainIn.model_validate({"kind": "train", "dataset": "d", "model": "m"})
    assert follow_dataset(order, [image("a", None), image("b", None, "g")]).split == order.split
