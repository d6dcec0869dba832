"""The foreground: cleaned, and where objects may begin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.imaging.masks import close_mask, find_classes
from shared.imaging.objects.foreground import find_region, foreground_reach
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.tiling import Box, Pixels
from tests.unit.objects.probabilities import object_rules, probability_planes


def one_hot(classes: list[list[int]]) -> Pixels:
    """Planes of three classes (3, H, W) of which the given one is certain."""
    return np.stack([np.array(classes) == number for number in range(3)]).astype(np.uint8) * np.uint8(255)


def plane(mask: np.ndarray) -> Pixels:
    return (mask * np.uint8(255))[None]


@settings(deadline=None)
@given(planes=probability_planes(longest=12), threshold=st.floats(0.0, 1.0))
def test_without_cleaning_the_foreground_is_that_of_the_mask(planes: Pixels, threshold: float) -> None:
    found = find_region(planes, ObjectRules(threshold)).classes
    np.testing.assert_array_equal(found, find_classes(planes, threshold=threshold))


@settings(deadline=None)
@given(planes=probability_planes(longest=16), radius=st.integers(1, 3))
def test_gaps_close_as_those_of_the_mask_do(planes: Pixels, radius: int) -> None:
    found = find_region(planes, ObjectRules(0.5, closing=radius)).classes
    np.testing.assert_array_equal(found, close_mask(find_classes(planes, threshold=0.5), radius))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), planes=probability_planes(longest=60))
def test_a_window_has_the_foreground_of_the_whole_image(data: st.DataObject, planes: Pixels) -> None:
    rules = data.draw(object_rules(classes=planes.shape[0]))
    _, height, width = planes.shape
    box = draw_box(data, height, width)
    window = box.grow(foreground_reach(rules)).intersect(Box(0, 0, height, width))
    inner = box.move(-window.top, -window.left).slices()
    seen, whole = find_region(planes[:, *window.slices()], rules), find_region(planes, rules)
    np.testing.assert_array_equal(seen.classes[inner], whole.classes[box.slices()])
    np.testing.assert_array_equal(seen.inside[inner], whole.inside[box.slices()])


def draw_box(data: st.DataObject, height: int, width: int) -> Box:
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    return Box(top, left, data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width)))


@pytest.mark.parametrize(("area", "filled"), [(3, False), (4, True), (5, True)])
def test_holes_up_to_the_area_are_filled(area: int, filled: bool) -> None:
    mask = np.ones((8, 8), dtype=bool)
    mask[3:5, 3:5] = False
    assert find_region(plane(mask), ObjectRules(0.5, fill_holes=area)).classes.all() == filled


def test_what_reaches_the_border_is_no_hole() -> None:
    mask = np.ones((8, 8), dtype=bool)
    mask[4, :3] = False
    found = find_region(plane(mask), ObjectRules(0.5, fill_holes=20)).classes
    np.testing.assert_array_equal(found, mask)


def test_a_corner_through_which_the_background_goes_on_ends_no_hole() -> None:
    mask = np.ones((8, 8), dtype=bool)
    mask[[3, 4, 5], [3, 4, 5]] = False
    found = find_region(plane(mask), ObjectRules(0.5, fill_holes=2)).classes
    np.testing.assert_array_equal(found, mask)


def test_a_long_slit_is_no_hole() -> None:
    mask = np.ones((5, 60), dtype=bool)
    mask[2, 2:58] = False
    found = find_region(plane(mask), ObjectRules(0.5, fill_holes=60)).classes
    np.testing.assert_array_equal(found, mask)


def test_a_hole_takes_the_highest_class_at_its_rim_other_than_the_border() -> None:
    classes = [[1, 1, 1, 1], [2, 0, 0, 1], [2, 2, 2, 2]]
    rules = ObjectRules(0.5, fill_holes=4)
    assert find_region(one_hot(classes), rules).classes[1, 1:3].tolist() == [2, 2]
    assert find_region(one_hot(classes), ObjectRules(0.5, fill_holes=4, border_class=2)).classes[1, 1:3].tolist() == [
        1,
        1,
    ]


def test_the_median_removes_specks_and_fills_pores() -> None:
    mask = np.zeros((9, 20), dtype=bool)
    mask[:, 10:] = True
    pitted = mask.copy()
    pitted[4, 4], pitted[4, 15] = True, False
    found = find_region(plane(pitted), ObjectRules(0.5, median=1)).classes
    np.testing.assert_array_equal(found, mask)


def test_objects_begin_where_it_is_neither_border_nor_doubtful() -> None:
    planes = np.array([[[0, 0, 0, 250]], [[200, 140, 10, 0]], [[0, 0, 200, 5]]], dtype=np.uint8)
    rules = ObjectRules(0.5, seed_threshold=0.6, border_class=2)
    region = find_region(planes, rules)
    assert (region.classes.tolist(), region.inside.tolist()) == ([[1, 1, 2, 0]], [[True, False, False, False]])


def test_an_object_may_begin_in_a_filled_hole() -> None:
    mask = np.ones((5, 5), dtype=bool)
    mask[2, 2] = False
    assert find_region(plane(mask), ObjectRules(0.5, seed_threshold=0.9, fill_holes=1)).inside.all()
