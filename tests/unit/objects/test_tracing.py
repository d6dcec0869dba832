from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.imaging.objects.table import Outlines
from shared.imaging.objects.tracing import join_outlines, trace
from tests.unit.objects.drawn import cut, cuts, label_arrays


def rings_of(outlines: Outlines, index: int) -> list[NDArray[np.int32]]:
    borders = outlines.rings[outlines.objects[index] : outlines.objects[index + 1] + 1]
    return [outlines.points[start:stop] for start, stop in pairwise(borders)]


def polygon_of(outlines: Outlines, index: int) -> shapely.Polygon:
    outer, *holes = rings_of(outlines, index)
    return shapely.Polygon(outer, holes)


def area_of(ring: NDArray[np.int32]) -> float:
    x, y = ring.T.astype(np.float64)
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2)


def assert_same(one: Outlines, other: Outlines) -> None:
    np.testing.assert_array_equal(one.points, other.points)
    np.testing.assert_array_equal(one.rings, other.rings)
    np.testing.assert_array_equal(one.objects, other.objects)


def test_a_pixel_is_a_square_from_its_top_left_corner_on() -> None:
    outlines = trace(np.ones((1, 1), np.uint32), origin=(10, 20))
    assert outlines.points.tolist() == [[20, 10], [21, 10], [21, 11], [20, 11]]
    assert outlines.points.dtype == np.int32


def test_only_corners_are_points() -> None:
    assert trace(np.ones((30, 500), np.uint32)).points.tolist() == [[0, 0], [500, 0], [500, 30], [0, 30]]


def test_a_hole_follows_its_outer_ring() -> None:
    labels = np.ones((3, 3), np.uint32)
    labels[1, 1] = 0
    outer, hole = rings_of(trace(labels), 0)
    assert (area_of(outer), area_of(hole)) == (9, -1)


def test_a_hole_that_touches_the_outside_in_a_corner_stays_a_ring_of_its_own() -> None:
    labels = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], np.uint32)
    outlines = trace(labels)
    assert [area_of(ring) for ring in rings_of(outlines, 0)] == [8, -1]
    assert polygon_of(outlines, 0).is_valid


def test_two_objects_that_touch_in_a_corner_are_two_squares() -> None:
    outlines = trace(np.array([[1, 0], [0, 2]], np.uint32))
    assert outlines.rings.tolist() == [0, 4, 8]


def test_no_object_has_no_outline() -> None:
    outlines = trace(np.zeros((4, 5), np.uint32))
    assert len(outlines) == 0
    assert outlines.points.shape == (0, 2)


def test_nothing_joined_is_nothing() -> None:
    assert len(join_outlines([], [], 0)) == 0


def test_a_label_that_does_not_occur_has_no_ring() -> None:
    outlines = trace(np.array([[1, 0, 3]], np.uint32))
    assert outlines.objects.tolist() == [0, 1, 1, 2]


@given(label_arrays())
def test_the_polygons_drawn_again_are_the_labels(labels: NDArray[np.uint32]) -> None:
    outlines = trace(labels, origin=(1000, 2000))
    x, y = np.meshgrid(np.arange(labels.shape[1]) + 2000.5, np.arange(labels.shape[0]) + 1000.5)
    drawn = np.zeros_like(labels)
    for index in range(len(outlines)):
        drawn[shapely.contains_xy(polygon_of(outlines, index), x, y)] += np.uint32(index + 1)
    np.testing.assert_array_equal(drawn, labels)


@given(label_arrays())
def test_every_polygon_is_valid_and_has_the_area_of_its_object(labels: NDArray[np.uint32]) -> None:
    outlines = trace(labels)
    polygons = [polygon_of(outlines, index) for index in range(len(outlines))]
    assert [(polygon.is_valid, polygon.area) for polygon in polygons] == [
        (True, np.count_nonzero(labels == index + 1)) for index in range(len(outlines))
    ]


@given(label_arrays())
def test_an_outer_ring_comes_first_and_only_holes_follow(labels: NDArray[np.uint32]) -> None:
    outlines = trace(labels)
    for index in range(len(outlines)):
        signs = [area_of(ring) > 0 for ring in rings_of(outlines, index)]
        assert signs == [True] + [False] * (len(signs) - 1)


@given(label_arrays())
def test_every_ring_begins_with_its_topmost_edge(labels: NDArray[np.uint32]) -> None:
    outlines = trace(labels)
    for ring in (ring for index in range(len(outlines)) for ring in rings_of(outlines, index)):
        assert ring[0, 1] == ring[1, 1] == ring[:, 1].min()
        assert min(ring[0, 0], ring[1, 0]) == ring[ring[:, 1] == ring[0, 1], 0].min()


@given(st.data(), label_arrays())
def test_outlines_joined_from_any_cuts_are_those_of_the_whole(data: st.DataObject, labels: NDArray[np.uint32]) -> None:
    parts = cut(labels, data.draw(cuts(labels.shape[0])), data.draw(cuts(labels.shape[1])))
    fragments = [trace(pieces, (down.start + 70, across.start)) for down, across, pieces, _ in parts]
    joined = join_outlines(fragments, [owners for *_, owners in parts], int(labels.max()))
    assert_same(joined, trace(labels, (70, 0)))


@given(st.data(), label_arrays())
def test_objects_taken_are_those_that_were_traced_alone(data: st.DataObject, labels: NDArray[np.uint32]) -> None:
    outlines = trace(labels)
    rows = data.draw(st.lists(st.integers(0, len(outlines) - 1), unique=True) if len(outlines) else st.just([]))
    alone = np.zeros(len(outlines) + 1, np.uint32)
    alone[np.array(rows, int) + 1] = np.arange(1, len(rows) + 1)
    assert_same(outlines.take(np.array(rows, int)), trace(alone[labels]))


def test_a_piece_left_out_leaves_no_trace() -> None:
    outlines = trace(np.array([[1, 2]], np.uint32))
    assert_same(join_outlines([outlines], [np.array([-1, 0])], 1), trace(np.array([[0, 1]], np.uint32)))


def test_a_part_without_its_groups_is_refused() -> None:
    with pytest.raises(ValueError, match="every piece needs a group"):
        join_outlines([trace(np.ones((1, 1), np.uint32))], [], 0)


def test_an_object_without_a_piece_is_refused() -> None:
    with pytest.raises(ValueError, match="every object a piece"):
        join_outlines([trace(np.ones((1, 1), np.uint32))], [np.array([1])], 2)


def test_one_ring_of_half_a_million_corners_is_followed_to_its_end() -> None:
    comb = np.zeros((1500, 1500), np.uint32)
    comb[:, ::4] = comb[0] = comb[2::4, 1::4] = 1
    outlines = trace(comb)
    assert outlines.rings.tolist() == [0, 4 + 4 * 375 - 2 + 4 * 375 * 375]
    assert area_of(outlines.points) == comb.sum()


def test_more_objects_than_are_linked_together_keep_their_order() -> None:
    labels = np.zeros((600, 500), np.uint32)
    labels[::2, ::2] = np.arange(1, 75_001).reshape(300, 250)
    outlines = trace(labels)
    np.testing.assert_array_equal(outlines.points[::4], np.argwhere(labels)[:, ::-1])
    np.testing.assert_array_equal(outlines.objects, np.arange(75_001))
