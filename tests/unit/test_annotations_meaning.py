"""What the numbers in masks mean: objects, foreground, classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label

from shared.annotations import agree, find_kind, number_objects, read_annotation
from shared.annotations.pieces import find_pieces
from shared.errors import Rejected
from shared.imaging.drawing import draw_nuclei
from shared.layouts import Entry, MaskKind
from tests.mask_files import blobs, npy, png

BOTH = np.arange(24, dtype=np.uint8).reshape(4, 6) % 2
SMALL = arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)


# Told from the numbers


def test_two_numbers_are_binary() -> None:
    assert find_kind(blobs(9) > 0) == ("binary", False)
    assert find_kind((blobs(9) > 0) * np.uint8(255)) == ("binary", False)
    assert find_kind(np.zeros((3, 3), np.uint8)) == ("binary", False)


def test_a_number_for_each_piece_is_instances() -> None:
    assert find_kind(blobs(40)) == ("instances", False)
    assert find_kind(blobs(2)) == ("instances", False)
    _, drawn = draw_nuclei(160, 160, seed=3, stain="histology")
    assert find_kind(drawn) == ("instances", False)


def test_a_few_small_numbers_over_many_pieces_are_classes() -> None:
    assert find_kind((blobs(40) % 4 + (blobs(40) > 0)).astype(np.uint8)) == ("classes", False)


def test_the_grey_of_soft_edges_is_no_mask() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    assert find_kind(noise) == ("instances", True)
    large = np.kron(blobs(30) > 0, np.ones((8, 8))).astype(np.uint8) * 255
    smooth = np.asarray(Image.fromarray(large).rotate(17).resize((250, 250), Image.Resampling.BICUBIC))
    assert find_kind(smooth)[1]


def test_a_dataset_is_what_those_of_its_masks_are_that_leave_no_doubt() -> None:
    assert agree(["binary", "instances", "binary", "binary"]) == "instances"
    assert agree(["classes", "classes", "instances", "binary"]) == "classes"
    assert agree(["binary"]) == agree([]) == "binary"


def entry(kind: MaskKind, **fields: Any) -> Entry:
    return Entry("a", "a", masks=("m",), mask_kind=kind, **fields)


def annotate(tmp_path: Path, values: NDArray[Any], kind: MaskKind, **fields: Any) -> Any:
    (tmp_path / "m").write_bytes(npy(values))
    height, width = values.shape[:2]
    return read_annotation(entry(kind, **fields), {"m": tmp_path / "m"}, height=height, width=width)


def test_the_kind_that_is_ordered_overrules_the_numbers(tmp_path: Path) -> None:
    values = blobs(7) * 3
    binary, instances, classes = (annotate(tmp_path, values, kind) for kind in ("binary", "instances", "classes"))
    np.testing.assert_array_equal(binary.classes, values > 0)
    np.testing.assert_array_equal(instances.labels, blobs(7))
    np.testing.assert_array_equal(classes.classes, values)
    assert (binary.labels, instances.classes, classes.labels) == (None, None, None)


def test_of_two_numbers_without_zero_the_smaller_is_background(tmp_path: Path) -> None:
    found = annotate(tmp_path, BOTH + 1, "auto")
    np.testing.assert_array_equal(found.classes, BOTH)
    assert not found.as_stored


def test_numbers_below_zero_are_background(tmp_path: Path) -> None:
    values = blobs(7).astype(np.int16) - (blobs(7) == 0)
    np.testing.assert_array_equal(annotate(tmp_path, values, "auto").labels, blobs(7))
    np.testing.assert_array_equal(annotate(tmp_path, -BOTH.astype(np.int16), "auto").classes, np.zeros_like(BOTH))


def test_classes_beyond_a_byte_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"m: 300 is no class, classes are 0 … 255"):
        annotate(tmp_path, np.full((3, 3), 300), "classes")


def test_types_are_the_classes_of_the_instances(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(npy(blobs(7) % 3))
    (tmp_path / "m").write_bytes(npy(blobs(7)))
    paths = {name: tmp_path / name for name in "mt"}
    found = read_annotation(entry("auto", types="t"), paths, height=100, width=100)
    np.testing.assert_array_equal(found.labels, blobs(7))
    np.testing.assert_array_equal(found.classes, blobs(7) % 3)


def test_types_of_another_size_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(npy(blobs(7)[:50]))
    (tmp_path / "m").write_bytes(npy(blobs(7)))
    with pytest.raises(Rejected, match="t: the classes have 100 × 50 px, but the mask m 100 × 100 px"):
        read_annotation(entry("auto", types="t"), {name: tmp_path / name for name in "mt"}, height=100, width=100)


def test_a_mask_of_a_whole_slide_is_not_held(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="m: a mask of 100000 × 100000 px is more than is held at once"):
        read_annotation(entry("auto"), {"m": tmp_path / "m"}, height=100_000, width=100_000)


# Masks of single objects


def write_objects(folder: Path, *objects: NDArray[Any]) -> tuple[Entry, dict[str, Path]]:
    names = [f"{number}.png" for number in range(len(objects))]
    for name, values in zip(names, objects, strict=True):
        (folder / name).write_bytes(png(Image.fromarray((values > 0).astype(np.uint8) * 255)))
    return Entry("a", "a", masks=tuple(names), mask_kind="merge"), {name: folder / name for name in names}


def test_masks_of_single_objects_become_one_label_image(tmp_path: Path) -> None:
    values = blobs(12)
    made, paths = write_objects(tmp_path, *(values == number for number in range(1, 13)))
    found = read_annotation(made, paths, height=100, width=100)
    np.testing.assert_array_equal(found.labels, values)
    assert (found.kind, found.notes) == ("instances", ())


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_where_objects_overlap_the_smaller_one_has_the_pixels(tmp_path: Path, order: tuple[int, int]) -> None:
    large, small = np.zeros((2, 9, 9), bool)
    large[1:8, 1:8], small[3:5, 3:5] = True, True
    objects = [(large, small)[place] for place in order]
    made, paths = write_objects(tmp_path, *objects)
    found = read_annotation(made, paths, height=9, width=9)
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels == found.labels[3, 3], small)
    np.testing.assert_array_equal(found.labels > 0, large)
    assert found.notes == ("pixels of more than one object, which the smaller one has: 4",)


def test_an_object_of_another_size_than_the_image_is_refused_by_name(tmp_path: Path) -> None:
    made, paths = write_objects(tmp_path, np.ones((4, 6)), np.ones((4, 5)))
    with pytest.raises(Rejected, match=r"1\.png: the mask of an object has 5 × 4 px, but the image 6 × 4 px"):
        read_annotation(made, paths, height=4, width=6)


def test_empty_masks_of_objects_are_noted(tmp_path: Path) -> None:
    made, paths = write_objects(tmp_path, np.zeros((4, 6)), np.ones((4, 6)))
    found = read_annotation(made, paths, height=4, width=6)
    assert found.notes == ("empty mask files: 1, such as 0.png",)


# PanNuke


def test_pannuke_has_a_plane_for_each_class(tmp_path: Path) -> None:
    masks = np.zeros((3, 8, 10, 6))
    masks[1, 0:2, 0:2, 0], masks[1, 4:6, 0:2, 0], masks[1, 4:6, 4:8, 4] = 7, 9, 3
    masks[1, :, :, 5] = 1 - (masks[1].max(axis=2) > 0)
    np.save(tmp_path / "masks.npy", masks)
    made = Entry("a", "images.npy", page=1, masks=("masks.npy",), mask_page=1, mask_kind="pannuke")
    found = read_annotation(made, {"masks.npy": tmp_path / "masks.npy"}, height=8, width=10)
    assert found.labels is not None
    assert found.classes is not None
    assert (found.labels[0, 0], found.labels[4, 0], found.labels[4, 4], found.labels.max()) == (1, 2, 3, 3)
    assert (found.classes[0, 0], found.classes[4, 4], found.classes[0, 9]) == (1, 5, 0)
    assert (found.class_names[1], found.class_names[5]) == ("neoplastic", "epithelial")


def test_an_array_that_is_not_pannukes_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "m", np.zeros((3, 8, 10)))
    with pytest.raises(Rejected, match=r"m: PanNuke's masks have the shape \(patches, H, W, 6\)"):
        read_annotation(entry("pannuke", mask_page=1), {"m": tmp_path / "m.npy"}, height=8, width=10)


# Numbers and pieces


@settings(deadline=None)
@given(values=arrays.arrays(np.int32, SMALL, elements=st.integers(-2, 6)))
def test_objects_are_numbered_in_the_order_of_their_numbers(values: NDArray[np.int32]) -> None:
    numbers = np.unique(values[values > 0])
    expected = np.searchsorted(numbers, values) + 1
    np.testing.assert_array_equal(number_objects(values), np.where(values > 0, expected, 0))
    np.testing.assert_array_equal(number_objects(values.astype(np.int64) * 10**9), number_objects(values))


@settings(deadline=None)
@given(values=arrays.arrays(np.uint8, SMALL, elements=st.integers(0, 3)))
def test_pieces_are_those_of_each_number_by_itself(values: NDArray[np.uint8]) -> None:
    pieces, count = find_pieces(values)
    assert count == sum(label(values == number)[1] for number in range(1, 4))
    np.testing.assert_array_equal(pieces > 0, values > 0)
    for number in range(1, count + 1):
        assert len(np.unique(values[pieces == number])) == 1
