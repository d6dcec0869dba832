"""The objects of a whole image."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from shared.imaging.objects.foreground import find_region
from shared.imaging.objects.heights import find_depth, find_heights
from shared.imaging.objects.merging import Depth
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.objects.whole import label_whole
from shared.imaging.tiling import Pixels
from tests.unit.objects.drawn import renumber
from tests.unit.objects.probabilities import object_rules, probability_planes

Place = tuple[int, int]


class SlowObjects:
    """The definition, pixel after pixel: climb, then take the edges from the highest saddle down."""

    def __init__(self, heights: NDArray[np.uint16], depth: Depth) -> None:
        self.heights = {(row, column): int(heights[row, column]) for row, column in np.argwhere(heights).tolist()}
        self.depth = depth
        self.owner = {place: self.climb(place) for place in self.heights}
        self.tops = dict(self.heights)

    def climb(self, place: Place) -> Place:
        best = max(self.around(place), key=lambda other: self.heights.get(other, 0))
        return place if best == place else self.climb(best)

    def around(self, place: Place) -> list[Place]:
        row, column = place
        return [(row, column - 1), (row - 1, column), place, (row + 1, column), (row, column + 1)]

    def edges(self) -> Iterator[tuple[int, int, int, int, Place, Place]]:
        for row, column in self.heights:
            for is_below, other in enumerate([(row, column + 1), (row + 1, column)]):
                if other in self.heights:
                    saddle = min(self.heights[row, column], self.heights[other])
                    yield -saddle, row, column, is_below, (row, column), other

    def merge(self) -> None:
        for negative, _, _, _, one, other in sorted(self.edges()):
            kept, gone = self.owner[one], self.owner[other]
            if kept != gone and self.is_lost(min(self.tops[kept], self.tops[gone]), -negative):
                self.tops[kept] = max(self.tops[kept], self.tops[gone])
                self.owner = {place: kept if top == gone else top for place, top in self.owner.items()}

    def is_lost(self, top: int, saddle: int) -> bool:
        share = (top - self.depth.base) * self.depth.per_mille // 1000
        return top - saddle < max(self.depth.least, share)

    def label(self, inside: NDArray[np.bool_]) -> NDArray[np.uint32]:
        labels = np.zeros(inside.shape, dtype=np.uint32)
        tops = sorted({self.owner[place] for place in self.heights if inside[place]})
        for place, top in self.owner.items():
            labels[place] = tops.index(top) + 1 if top in tops else 0
        return labels


@settings(deadline=None, max_examples=60)
@given(data=st.data(), planes=probability_planes(longest=16))
def test_objects_are_what_the_definition_says(data: st.DataObject, planes: Pixels) -> None:
    rules = data.draw(object_rules(classes=planes.shape[0]))
    region = find_region(planes, rules)
    slow = SlowObjects(find_heights(region, rules), find_depth(rules))
    slow.merge()
    np.testing.assert_array_equal(label_whole(planes, rules), renumber(slow.label(region.inside)))


@settings(deadline=None)
@given(planes=probability_planes(longest=20))
def test_components_are_the_connected_foreground(planes: Pixels) -> None:
    rules = ObjectRules(0.5, method="components")
    expected, _ = ndimage.label(find_region(planes, rules).classes > 0)
    np.testing.assert_array_equal(label_whole(planes, rules), renumber(expected))


@settings(deadline=None)
@given(data=st.data(), planes=probability_planes(longest=24))
def test_every_object_is_connected(data: st.DataObject, planes: Pixels) -> None:
    labels = label_whole(planes, data.draw(object_rules(classes=planes.shape[0])))
    parts = [ndimage.label(labels == label)[1] for label in range(1, int(labels.max()) + 1)]
    assert parts == [1] * len(parts)


def ellipse(row: float, column: float, high: float, wide: float) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[:60, :90]
    return np.asarray(((rows - row) / high) ** 2 + ((columns - column) / wide) ** 2 <= 1)


def planes_of(mask: NDArray[np.bool_]) -> Pixels:
    return (mask * np.uint8(255))[None]


def test_two_nuclei_that_touch_are_split_between_them() -> None:
    labels = label_whole(planes_of(ellipse(30, 30, 14, 14) | ellipse(30, 55, 14, 14)), ObjectRules(0.5))
    assert labels.max() == 2
    assert (labels[30, 20:42] == labels[30, 20]).all()
    assert (labels[30, 44:65] == labels[30, 60]).all()


def test_a_long_nucleus_stays_one() -> None:
    assert label_whole(planes_of(ellipse(30, 45, 8, 40)), ObjectRules(0.5)).max() == 1


def test_a_nucleus_that_the_border_cuts_stays_one() -> None:
    assert label_whole(planes_of(ellipse(0, 0, 25, 40) | ellipse(59, 60, 20, 9)), ObjectRules(0.5)).max() == 2


def test_objects_apart_are_counted_by_their_first_pixels() -> None:
    labels = label_whole(planes_of(ellipse(30, 15, 12, 12) | ellipse(25, 70, 12, 12)), ObjectRules(0.5))
    assert (labels[25, 70], labels[30, 15]) == (1, 2)


@pytest.mark.parametrize(("smallest", "largest", "kept"), [(1, None, 3), (10, None, 2), (9, 100, 2), (10, 100, 1)])
def test_objects_of_other_sizes_are_left_out(smallest: int, largest: int | None, kept: int) -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[1:4, 1:4] = mask[10:20, 10:20] = mask[22:38, 5:38] = True
    labels = label_whole(planes_of(mask), ObjectRules(0.5, min_area=smallest, max_area=largest))
    assert np.unique(labels).tolist() == list(range(kept + 1))


def test_two_nuclei_with_predicted_borders_keep_them() -> None:
    inside = ellipse(30, 30, 10, 10) | ellipse(30, 55, 10, 10)
    border = (ellipse(30, 30, 13, 13) | ellipse(30, 55, 13, 13)) & ~inside
    classes = inside + 2 * border
    planes = np.stack([classes == number for number in range(3)]).astype(np.uint8) * np.uint8(255)
    labels = label_whole(planes, ObjectRules(0.5, border_class=2))
    np.testing.assert_array_equal(labels > 0, classes > 0)
    assert labels.max() == 2


def test_an_image_without_foreground_has_no_objects() -> None:
    assert not label_whole(np.zeros((1, 7, 9), dtype=np.uint8), ObjectRules(0.5)).any()
