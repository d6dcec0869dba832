"""Steps of masks: what becomes of objects, of classes, and of images that have neither."""

import time
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from skimage.measure import label as number_components
from skimage.morphology import remove_small_holes
from skimage.segmentation import find_boundaries as find_theirs

from shared.imaging.drawing import draw_nuclei
from shared.imaging.masks import close_mask, disc
from shared.imaging.steps import morphology
from shared.imaging.steps.mask_steps import MASK_STEPS, find_boundaries, make_mask_step
from shared.imaging.steps.meaning import Meaning, follow
from shared.imaging.steps.truth import Labels, Truth
from shared.imaging.tiling import Box, Pixels
from shared.schemas.steps import as_json, read_steps

CLASSES = arrays.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.integers(0, 2))


def drawn(seed: int = 0) -> Labels:
    return draw_nuclei(120, 140, seed=seed, stain="fluorescence")[1].astype(np.int32)


def change(truth: Truth, step: str, **fields: Any) -> Truth:
    """As it is ordered."""
    (stored,) = as_json(read_steps([{"step": step, **fields}]))
    return make_mask_step(stored)(truth)


def labels_of(truth: Truth) -> Labels:
    assert truth.labels is not None
    return truth.labels


def classes_of(truth: Truth) -> Pixels:
    assert truth.classes is not None
    return truth.classes


class TestBoundaries:
    @pytest.mark.parametrize("side", ["inner", "outer", "thick"])
    @given(
        labels=arrays.arrays(np.int32, st.tuples(st.integers(1, 15), st.integers(1, 15)), elements=st.integers(0, 4))
    )
    @settings(max_examples=60, deadline=None)
    def test_they_are_scikit_image_s(self, side: Literal["inner", "outer", "thick"], labels: Labels) -> None:
        np.testing.assert_array_equal(find_boundaries(labels, 1, side), find_theirs(labels, 1, mode=side))

    @given(
        labels=arrays.arrays(np.int32, st.tuples(st.integers(1, 15), st.integers(1, 15)), elements=st.integers(0, 4)),
        width=st.integers(1, 6),
    )
    @settings(max_examples=60, deadline=None)
    def test_they_are_as_wide_as_a_disc_of_that_radius(self, labels: Labels, width: int) -> None:
        seen = {"footprint": disc(width), "mode": "nearest"}
        expected = ndimage.maximum_filter(labels, **seen) != ndimage.minimum_filter(labels, **seen)
        np.testing.assert_array_equal(find_boundaries(labels, width, "thick"), expected)

    def test_as_a_class_they_leave_the_interiors(self) -> None:
        labels = drawn()
        after = change(Truth(labels), "boundary", width=2, output="class")
        assert after.labels is None
        found = find_boundaries(labels, 2, "inner")
        np.testing.assert_array_equal(classes_of(after) == 2, found)
        np.testing.assert_array_equal(classes_of(after) == 1, (labels > 0) & ~found)

    def test_a_number_that_is_a_class_already_is_refused(self) -> None:
        truth = Truth(None, np.full((4, 4), 3, np.uint8))
        with pytest.raises(ValueError, match="has a class 3 already; give boundaries a number above it, not 2"):
            change(truth, "boundary", output="class")


class TestMorphology:
    @given(classes=CLASSES, radius=st.integers(1, 3))
    @settings(max_examples=60, deadline=None)
    def test_closing_classes_is_what_serving_does(self, classes: Pixels, radius: int) -> None:
        after = change(Truth(None, classes), "closing", radius=radius)
        np.testing.assert_array_equal(classes_of(after), close_mask(classes, radius))

    @given(
        labels=arrays.arrays(np.int32, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 2)),
        radius=st.integers(1, 4),
        block=st.sampled_from([5, 2048]),
    )
    @settings(max_examples=100, deadline=None)
    def test_opening_and_closing_are_those_by_the_disc_itself(self, labels: Labels, radius: int, block: int) -> None:
        opened, closed = labels.copy(), labels.copy()
        for number in np.unique(labels[labels > 0]):
            around, inner = (
                np.pad(labels == number, 2 * radius, mode="symmetric"),
                (slice(2 * radius, -2 * radius),) * 2,
            )
            opened[(labels == number) & ~ndimage.binary_opening(around, disc(radius))[inner]] = 0
            closed[ndimage.binary_closing(around, disc(radius))[inner] & (labels == 0)] = number
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(morphology, "BLOCK", block)
            np.testing.assert_array_equal(labels_of(change(Truth(labels), "opening", radius=radius)), opened)
            np.testing.assert_array_equal(labels_of(change(Truth(labels), "closing", radius=radius)), closed)

    @pytest.mark.parametrize("step", ["opening", "closing", "boundary", "fill"])
    def test_a_step_can_be_broken_off_between_two_objects(self, step: str) -> None:
        class Enough(Exception):
            pass

        def check() -> None:
            raise Enough

        with pytest.raises(Enough):
            make_mask_step(as_json(read_steps([{"step": step}]))[0], check)(Truth(drawn()))

    @pytest.mark.parametrize("step", ["opening", "closing"])
    def test_a_large_disc_takes_hardly_longer_than_a_small_one(self, step: str) -> None:
        mask = Truth(None, np.pad(np.ones((150, 150), np.uint8), 25))

        def measure(radius: int) -> float:
            began = time.process_time()
            change(mask, step, radius=radius)
            return time.process_time() - began

        assert min(measure(40) for _ in range(3)) < 20 * max(measure(2) for _ in range(3))

    def test_opening_cuts_a_bridge_and_leaves_what_is_wide(self) -> None:
        labels = np.zeros((30, 40), np.int32)
        labels[5:20, 5:15] = labels[5:20, 25:35] = labels[12, 15:25] = 7
        after = labels_of(change(Truth(labels), "opening", radius=2))
        assert not after[12, 17:23].any()
        assert (after[8:17, 8:12] == 7).all()

    def test_an_object_that_opening_ends_ends_in_the_classes_too(self) -> None:
        labels = np.zeros((20, 20), np.int32)
        labels[2:14, 2:14], labels[17, 3:9] = 1, 2
        after = change(Truth(labels, (labels * 3).astype(np.uint8)), "opening", radius=2)
        assert set(np.unique(labels_of(after))) == {0, 1}
        np.testing.assert_array_equal(classes_of(after) > 0, labels_of(after) > 0)

    def test_closing_never_takes_pixels_of_another_object(self) -> None:
        labels = drawn()
        after = labels_of(change(Truth(labels), "closing", radius=3))
        np.testing.assert_array_equal(after[labels > 0], labels[labels > 0])
        assert (after > 0).sum() > (labels > 0).sum()

    def test_what_closing_adds_has_the_object_s_class(self) -> None:
        labels = np.zeros((9, 9), np.int32)
        labels[2:7, 2:4] = labels[2:7, 5:7] = 1
        after = change(Truth(labels, (labels * 5).astype(np.uint8)), "closing", radius=1)
        assert classes_of(after)[4, 4] == 5


class TestRegions:
    def test_all_holes_of_an_object_are_filled(self) -> None:
        labels = np.zeros((12, 12), np.int32)
        labels[1:11, 1:11] = 3
        labels[4:6, 4:6] = 0
        labels[0:3, 8] = 0  # open to the outside
        after = labels_of(change(Truth(labels), "fill"))
        assert (after[4:6, 4:6] == 3).all()
        assert not after[0:3, 8].any()

    @given(mask=arrays.arrays(np.bool_, (16, 16)), area=st.integers(1, 8))
    @settings(max_examples=40, deadline=None)
    def test_small_holes_are_those_of_scikit_image(self, mask: np.ndarray[Any, Any], area: int) -> None:
        mask[0] = mask[-1] = mask[:, 0] = mask[:, -1] = True  # theirs fills what the border cuts, ours does not
        after = classes_of(change(Truth(None, mask.astype(np.uint8)), "fill", area=area))
        np.testing.assert_array_equal(after > 0, remove_small_holes(mask, max_size=area))

    def test_an_object_within_a_hole_stays(self) -> None:
        labels = np.zeros((9, 9), np.int32)
        labels[1:8, 1:8], labels[2:7, 2:7], labels[4, 4] = 1, 0, 2
        after = labels_of(change(Truth(labels), "fill"))
        assert after[4, 4] == 2
        assert after[3, 3] == 1

    def test_membranes_part_the_image_into_regions(self) -> None:
        inside = drawn() == 0
        after = change(Truth(None, (~inside).astype(np.uint8)), "fill", mode="contours")
        assert after.classes is None
        np.testing.assert_array_equal(labels_of(after), number_components(inside, connectivity=1))

    def test_regions_at_the_border_can_be_dropped(self) -> None:
        contours = np.zeros((9, 9), np.uint8)
        contours[2, 2:7] = contours[6, 2:7] = contours[2:7, 2] = contours[2:7, 6] = 1
        after = labels_of(change(Truth(None, contours), "fill", mode="contours", border="drop"))
        assert (after[3:6, 3:6] == 1).all()
        assert after.sum() == 9


class TestClasses:
    def test_classes_are_mapped_and_the_others_dropped_with_their_objects(self) -> None:
        labels = np.array([[1, 2, 3, 0]], np.int32)
        after = change(Truth(labels, np.array([[1, 2, 3, 0]], np.uint8)), "map_classes", mapping={"1": 2, 2: 1})
        assert classes_of(after).tolist() == [[2, 1, 0, 0]]
        assert labels_of(after).tolist() == [[1, 2, 0, 0]]

    def test_the_others_can_be_kept(self) -> None:
        after = change(Truth(None, np.array([[1, 2, 3, 0]], np.uint8)), "map_classes", mapping={1: 3}, others="keep")
        assert classes_of(after).tolist() == [[3, 2, 3, 0]]

    def test_objects_without_classes_cannot_be_mapped(self) -> None:
        with pytest.raises(ValueError, match="says no classes; leave the step map_classes out"):
            change(Truth(drawn()), "map_classes", mapping={1: 1})

    def test_merged_and_inverted_masks_are_opposites(self) -> None:
        labels = drawn()
        merged, inverted = (classes_of(change(Truth(labels), step)) for step in ("merge", "invert_mask"))
        np.testing.assert_array_equal(merged, labels > 0)
        np.testing.assert_array_equal(merged + inverted, 1)


@pytest.mark.parametrize("step", sorted(MASK_STEPS))
def test_an_image_without_a_mask_has_none_afterwards(step: str) -> None:
    fields = {"mapping": {1: 1}} if step == "map_classes" else {}
    assert change(Truth(), step, **fields) == Truth()


class TestGeometry:
    @given(height=st.integers(1, 30), width=st.integers(1, 30), rows=st.integers(1, 60), columns=st.integers(1, 60))
    @settings(deadline=None)
    def test_no_new_numbers_arise_from_resizing(self, height: int, width: int, rows: int, columns: int) -> None:
        labels = np.arange(1, height * width + 1, dtype=np.int32).reshape(height, width)
        after = labels_of(Truth(labels).resize(rows, columns))
        assert after.shape == (rows, columns)
        assert set(np.unique(after)) <= set(np.unique(labels))
        if rows >= height and columns >= width:
            assert len(np.unique(after)) == labels.size, "none is lost either"

    def test_a_crop_is_a_copy(self) -> None:
        labels = drawn()
        after = labels_of(Truth(labels).crop(Box(3, 4, 10, 12)))
        assert not np.shares_memory(after, labels)
        np.testing.assert_array_equal(after, labels[3:10, 4:12])


class TestMeaning:
    @pytest.mark.parametrize(
        ("order", "expected"),
        [
            ({"step": "merge"}, Meaning("binary", ("background", "foreground"))),
            ({"step": "boundary"}, Meaning("binary", ("background", "foreground"))),
            (
                {"step": "boundary", "output": "class", "number": 3},
                Meaning("classes", ("background", "tumour", "immune", "boundary")),
            ),
            ({"step": "fill", "mode": "contours"}, Meaning("instances")),
            ({"step": "fill"}, Meaning("instances", ("background", "tumour", "immune"))),
            ({"step": "map_classes", "mapping": {2: 1}}, Meaning("instances", ("background", "immune"))),
            ({"step": "map_classes", "mapping": {1: 1, 2: 1}}, Meaning("instances", ("background", "tumour"))),
            (
                {"step": "map_classes", "mapping": {1: 3}, "others": "keep"},
                Meaning("instances", ("background", "class 1", "immune", "tumour")),
            ),
        ],
    )
    def test_kind_and_names_follow_the_steps(self, order: dict[str, Any], expected: Meaning) -> None:
        before = Meaning("instances", ("background", "tumour", "immune"))
        assert follow(before, as_json(read_steps([{"step": "median"}, order]))) == expected

    def test_an_image_without_a_mask_gets_no_meaning(self) -> None:
        assert follow(Meaning(None), as_json(read_steps([{"step": "merge"}]))) == Meaning(None)
