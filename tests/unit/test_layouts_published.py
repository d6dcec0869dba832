"""The layouts that published datasets have: a folder for each image, or many images in a file."""

import pytest

from shared.layouts import Layout, detect
from tests.arrangements import Told, arranged, masks_of, reasons_of

# A folder for each image


def test_the_data_science_bowl_has_a_folder_for_each_image() -> None:
    names = ["st/x/images/x.png", "st/x/masks/1.png", "st/x/masks/2.png", "st/y/images/y.png", "st/y/masks/3.png"]
    assert detect(names).layout is Layout.DSB2018
    found = arranged(names)
    assert masks_of(found) == {
        "st/x/images/x.png": ("st/x/masks/1.png", "st/x/masks/2.png"),
        "st/y/images/y.png": ("st/y/masks/3.png",),
    }
    assert {entry.mask_kind for entry in found.entries} == {"merge"}


def test_masks_beside_several_images_belong_to_none_of_them() -> None:
    names = ["x/images/x.png", "x/images/y.png", "x/masks/1.png"]
    found = arranged(names, layout=Layout.DSB2018)
    assert masks_of(found) == {"x/images/x.png": (), "x/images/y.png": ()}
    assert "x has 2 images" in reasons_of(found)["x/masks/1.png"]


def test_the_cell_tracking_challenge_numbers_its_frames() -> None:
    names = ["01/t000.tif", "01/t001.tif", "01/t002.tif", "02/t000.tif"]
    truth = [
        "01_GT/SEG/man_seg000.tif",
        "01_ST/SEG/man_seg000.tif",
        "01_ST/SEG/man_seg001.tif",
        "02_GT/SEG/man_seg0000.tif",
    ]
    other = [
        "01_GT/TRA/man_track000.tif",
        "01_GT/SEG/man_seg_002_007.tif",
        "01_GT/SEG/man_seg009.tif",
        "01_GT/TRA/t.txt",
    ]
    assert detect([*names, *truth, *other]).layout is Layout.CTC
    found = arranged([*names, *truth, *other])
    assert masks_of(found) == {
        "01/t000.tif": (truth[0],),
        "01/t001.tif": (truth[2],),
        "01/t002.tif": (),
        "02/t000.tif": (truth[3],),
    }
    assert [entry.group for entry in found.entries] == ["01", "01", "01", "02"]
    reasons = reasons_of(found)
    assert reasons[truth[1]] == "a second mask for 01/t000.tif: 01_GT/SEG/man_seg000.tif is taken"
    assert "not their outlines" in reasons[other[0]]
    assert "one slice of a 3-D stack" in reasons[other[1]]
    assert "01 has no frame 009" in reasons[other[2]]


# Many images in a file


def test_the_isbi_challenge_has_a_page_for_each_image() -> None:
    names = ["train-volume.tif", "train-labels.tif", "test-volume.tif"]
    found = detect(names)
    assert (found.layout, found.images, found.masked) == (Layout.ISBI, 2, 1)
    pages = Told({"train-volume.tif": 2, "train-labels.tif": 2, "test-volume.tif": 1})
    entries = arranged(names, pages).entries
    assert [(e.name, e.page, e.masks, e.mask_page, e.split, e.group) for e in entries] == [
        ("test-volume.tif/0000", 0, (), None, "test", "test-volume.tif"),
        ("train-volume.tif/0000", 0, ("train-labels.tif",), 0, "train", "train-volume.tif"),
        ("train-volume.tif/0001", 1, ("train-labels.tif",), 1, "train", "train-volume.tif"),
    ]


def test_labels_of_another_length_are_not_those_of_the_volume() -> None:
    found = arranged(["volume.tif", "labels.tif"], Told({"volume.tif": 3, "labels.tif": 2}))
    assert [entry.masks for entry in found.entries] == [(), (), ()]
    assert "2 masks, but 3 images in volume.tif" in reasons_of(found)["labels.tif"]


def test_a_damaged_stack_is_ignored_with_its_reason() -> None:
    found = arranged(["volume.tif", "labels.tif"], Told())
    assert reasons_of(found) == dict.fromkeys(["volume.tif", "labels.tif"], "volume.tif: damaged")


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("Fold {}/images/fold{}/images.npy", "Fold {}/masks/fold{}/masks.npy"),
        ("fold{}/images.npy", "fold{}/masks.npy"),
        ("images/fold{}/images.npy", "masks/fold{}/masks.npy"),
    ],
)
def test_folds_of_pannuke_are_groups_and_all_three_the_published_split(images: str, masks: str) -> None:
    names = [path.format(fold, fold) for fold in (1, 2, 3) for path in (images, masks)]
    assert detect(names).layout is Layout.PANNUKE
    found = arranged(names, Told(dict.fromkeys(names, 2)))
    assert [entry.split for entry in found.entries] == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    assert len({entry.group for entry in found.entries}) == 3
    assert all(entry.mask_page == entry.page and entry.mask_kind == "pannuke" for entry in found.entries)
    two = arranged(names[:4], Told(dict.fromkeys(names, 2)))
    assert {entry.split for entry in two.entries} == {None}
