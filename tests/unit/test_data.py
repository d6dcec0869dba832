"""From files with masks to samples in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label

from services.trainer.data import find_pairs_in, load_samples
from services.trainer.data.masks import separate
from shared.annotations import number_objects
from shared.errors import Rejected
from shared.imaging.drawing import draw_nuclei
from shared.imaging.levels import Levels, count_values
from shared.imaging.tiling import Pixels
from shared.schemas.training import TrainIn

GREY = np.full((4, 6, 3), (10, 20, 60), np.uint8)
INSTANCES = np.arange(24).reshape(4, 6)
BORDER = {"border": {"w0": 10, "sigma": 5}}


def make_order(*, channels: int = 3, classes: int = 1, **changes: Any) -> TrainIn:
    fields: dict[str, Any] = {
        "kind": "train",
        "dataset_version": UUID(int=0),
        "model": "nuclei",
        "network": {"widths": [4, 8], "channels": channels, "classes": classes},
        "masks": {"kind": "binary" if classes == 1 else "classes"},
    }
    return TrainIn(**(fields | changes))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., tuple[str, Path, Path]]:
    """Store an image and a mask, as PNG or TIFF."""

    def write_pair(image: Pixels, mask: NDArray[Any], suffix: str = ".png") -> tuple[str, Path, Path]:
        image_path, mask_path = tmp_path / "image.png", tmp_path / f"mask{suffix}"
        Image.fromarray(image).save(image_path)
        if suffix == ".png":
            Image.fromarray(mask).save(mask_path)
        else:
            tifffile.imwrite(mask_path, mask)
        return "cells.png", image_path, mask_path

    return write_pair


# Masks


@pytest.mark.parametrize("kind", ["binary", "instances"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
def test_with_one_class_every_label_is_foreground(write: Any, kind: str, suffix: str, dtype: type) -> None:
    order = make_order(masks={"kind": kind})
    (sample,) = load_samples([write(GREY, INSTANCES.astype(dtype), suffix)], order)
    np.testing.assert_array_equal(sample.mask, INSTANCES > 0)
    np.testing.assert_array_equal(sample.image, GREY)
    assert sample.border is None


def test_with_more_classes_the_value_is_the_class(write: Any) -> None:
    order = make_order(channels=1, classes=3)
    (sample,) = load_samples([write(GREY, (INSTANCES % 3).astype(np.uint8))], order)
    np.testing.assert_array_equal(sample.mask, INSTANCES % 3)
    assert sample.image.shape == (4, 6, 1)
    assert (sample.image == 30).all()


def test_where_zero_is_foreground_all_else_is_background(write: Any) -> None:
    order = make_order(masks={"foreground": "zero"})
    (sample,) = load_samples([write(GREY, (INSTANCES % 3).astype(np.uint8))], order)
    np.testing.assert_array_equal(sample.mask, INSTANCES % 3 == 0)


def test_a_grey_mask_saved_in_colour_is_taken(write: Any) -> None:
    mask = np.repeat(INSTANCES[:, :, None].astype(np.uint8), 3, axis=2)
    (sample,) = load_samples([write(GREY, mask)], make_order())
    np.testing.assert_array_equal(sample.mask, INSTANCES > 0)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((4, 6), 3, np.uint8), r"cells.png: the mask holds the value 3, but with 3 classes only 0 … 2"),
        (np.zeros((4, 5), np.uint8), r"cells.png: the image has 6 × 4 px but its mask 5 × 4 px"),
        (np.stack([INSTANCES] * 2 + [INSTANCES + 1], -1).astype(np.uint8), "one whole number per pixel"),
    ],
)
def test_a_mask_that_does_not_fit_is_rejected_with_the_mend(write: Any, mask: NDArray[Any], message: str) -> None:
    with pytest.raises(Rejected, match=message):
        load_samples([write(GREY, mask)], make_order(classes=3))


@pytest.mark.parametrize("content", [b"", b"no image at all", b"II*\0cut off", b"\x89PNG\r\n\x1a\n"])
def test_a_damaged_mask_is_rejected_by_name(write: Any, content: bytes) -> None:
    name, image, mask = write(GREY, np.zeros((4, 6), np.uint8))
    mask.write_bytes(content)
    with pytest.raises(Rejected, match=r"cells\.png: the mask is no readable PNG or TIFF"):
        load_samples([(name, image, mask)], make_order())


def test_objects_are_numbered_without_gaps_whatever_their_numbers_were() -> None:
    values = np.array([[0, 70_000, 70_000], [-4, 3, 9]])
    np.testing.assert_array_equal(number_objects(values), [[0, 3, 3], [0, 1, 2]])
    np.testing.assert_array_equal(number_objects(np.array([[5, 5], [8, 8]], np.uint16)), [[1, 1], [2, 2]])


def test_touching_objects_are_parted_by_one_line_of_the_larger_one() -> None:
    labels = np.zeros((5, 8), np.int32)
    labels[:, :5], labels[:, 5:] = 1, 2
    parted = separate(labels)
    assert (parted[:, 4] == 0).all()
    np.testing.assert_array_equal(np.delete(parted, 4, axis=1), np.delete(labels, 4, axis=1))


def test_separated_objects_do_not_even_touch_at_corners() -> None:
    _, drawn = draw_nuclei(160, 160, seed=3, stain="histology")
    labels = number_objects(drawn)
    parted = separate(labels)
    _, together = label(labels > 0, np.ones((3, 3)))
    _, apart = label(parted > 0, np.ones((3, 3)))
    assert together < len(np.unique(labels)) - 1 <= apart  # some touched before
    blobs, _ = label(parted > 0, np.ones((3, 3)))
    assert all(len(np.unique(parted[blobs == number])) == 1 for number in range(1, apart + 1))
    assert ((parted == labels) | (parted == 0)).all()


def test_small_objects_survive_between_large_ones() -> None:
    labels = np.ones((7, 7), np.int32)
    labels[3, 3] = 2
    assert (separate(labels) == 2).sum() == 1


def test_touching_instances_are_parted_if_ordered(write: Any) -> None:
    mask = np.repeat(np.array([[1, 1, 1, 2, 2, 0]], np.uint8), 4, axis=0)
    (apart,) = load_samples([write(GREY, mask)], make_order(masks={"kind": "instances", "separate": True}))
    np.testing.assert_array_equal(apart.mask[0], [1, 1, 0, 1, 1, 0])


# Preparation


def test_images_are_equalised_then_inverted_as_a_whole(write: Any) -> None:
    image = np.random.default_rng(0).integers(0, 90, (4, 6, 3), dtype=np.uint8)
    pair = write(image, INSTANCES.astype(np.uint8))
    (sample,) = load_samples([pair], make_order(preparation={"equalise": True, "invert": True}))
    np.testing.assert_array_equal(sample.image, 255 - Levels.equalising(count_values([image])).apply(image))


def test_images_are_stretched_each_by_its_own_percentiles_after_scaling(write: Any) -> None:
    image = np.random.default_rng(0).integers(50, 90, (64, 64, 3), dtype=np.uint8)
    pair = write(image, np.zeros((64, 64), np.uint8))
    plain, stretched = (
        load_samples([pair], make_order(resize=32, preparation=preparation))[0].image
        for preparation in ({}, {"stretch": [10, 90]})
    )
    low, high = np.percentile(plain, [10, 90], axis=(0, 1))
    expected = np.clip((plain - low) / (high - low), 0, 1) * 255
    assert np.abs(stretched - expected).max() <= 0.5 + 1e-9


def test_resizing_averages_the_image_and_picks_from_the_mask(write: Any) -> None:
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, ::2] = 100  # every second column
    mask = np.zeros((64, 128), np.uint8)
    mask[:32, 64:], mask[32:, :64] = 2, 1
    (sample,) = load_samples([write(image, mask)], make_order(classes=3, resize=32))
    assert sample.image.shape == (32, 32, 3)
    assert (sample.image == 50).all()
    np.testing.assert_array_equal(sample.mask, np.kron([[0, 2], [1, 0]], np.ones((16, 16))))


def test_small_images_grow_smoothly_and_masks_get_no_new_values(write: Any) -> None:
    image = np.repeat(np.array([[0, 200]], np.uint8), 2, axis=0)[:, :, None].repeat(3, axis=2)
    (sample,) = load_samples([write(image, np.array([[0, 9], [0, 9]], np.uint8))], make_order(resize=32))
    row = sample.image[0, :, 0].astype(int)
    assert (np.diff(row) >= 0).all()
    assert len(np.unique(row)) > 10
    np.testing.assert_array_equal(sample.mask[0], [0] * 16 + [1] * 16)


def test_a_training_set_that_does_not_fit_in_memory_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.zeros((20, 30, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((20, 30), dtype=np.uint8)).save(tmp_path / "mask.png")
    monkeypatch.setattr("services.trainer.data.samples.LARGEST_SET", 20 * 30 * 12)  # 4 kept, 6 while read
    pairs = [(name, tmp_path / "a.png", tmp_path / "mask.png") for name in ("one", "two", "three")]
    assert len(load_samples(pairs[:2], make_order())) == 2
    with pytest.raises(Rejected, match="three: with this image of 30 × 20 px"):
        load_samples(pairs, make_order())
    with pytest.raises(Rejected, match="one: with this image"):  # 60² px are held
        load_samples(pairs[:1], make_order(resize=60))
    instances = make_order(masks={"kind": "instances"})  # their numbers take four bytes more, border weights two
    monkeypatch.setattr("services.trainer.data.samples.LARGEST_SET", 20 * 30 * 8 * 2)
    assert len(load_samples(pairs[:2], instances)) == 2
    with pytest.raises(Rejected, match="two: with this image"):
        load_samples(pairs[:2], make_order(masks={"kind": "instances"}, loss=BORDER))


def test_border_weights_come_with_the_samples_after_scaling_and_separation(write: Any) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32], mask[:, 32:] = 3, 200
    order = make_order(masks={"kind": "instances", "separate": True}, loss=BORDER, resize=32)
    (sample,) = load_samples([write(np.zeros((64, 64, 3), np.uint8), mask)], order)
    assert sample.border is not None
    assert sample.border.shape == (32, 32)
    assert sample.border.dtype == np.float16
    (gap,) = np.flatnonzero(sample.mask[0] == 0)
    assert sample.border[0, gap] == pytest.approx(10 * np.exp(-4 / 50), rel=1e-3)  # 1 px from either
    assert sample.border[0].argmax() in (gap - 1, gap + 1)  # in the rim itself d1 is 0


# Folders


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for folder, names in (("images", ["b.tif", "a.png", ".hidden"]), ("masks", ["a.tif", "b.png", "c.png"])):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    return tmp_path / "images", tmp_path / "masks"


def test_folders_pair_by_name_whatever_the_suffix(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    assert find_pairs_in(images, masks) == [
        ("a.png", images / "a.png", masks / "a.tif"),
        ("b.tif", images / "b.tif", masks / "b.png"),
    ]


@pytest.mark.parametrize(
    ("added", "message"),
    [("images/d.png", r"d\.png: the image has no mask"), ("masks/a.png", r"a\.tif: a\.png in the same folder")],
)
def test_a_file_without_its_only_partner_is_rejected_by_name(
    folders: tuple[Path, Path], added: str, message: str
) -> None:
    (folders[0].parent / added).touch()
    with pytest.raises(Rejected, match=message):
        find_pairs_in(*folders)


def test_folders_without_images_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="no images in this folder"):
        find_pairs_in(tmp_path, tmp_path)
    with pytest.raises(Rejected, match="no such folder"):
        find_pairs_in(tmp_path / "images", tmp_path)
