"""Polygons and run lengths drawn as label images, of the whole or of a part."""

import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from shared.annotations.outlines import Outline, Stamp, rasterise, to_ring
from shared.annotations.run_lengths import uncompress_runs
from shared.imaging.tiling import Box
from tests.outlines import HOLE, SQUARE, compressed, marked, runs_of

SIDE = 24
CORNERS = st.lists(st.tuples(*[st.floats(-4, SIDE + 4, width=32)] * 2), min_size=3, max_size=9)
OUTLINES = st.lists(
    st.builds(
        lambda rings: Outline(tuple((to_ring(ring),) for ring in rings)), st.lists(CORNERS, min_size=1, max_size=2)
    ),
    max_size=6,
)
WHOLE = Box(0, 0, SIDE, SIDE)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    top, left = draw(st.integers(0, SIDE - 1)), draw(st.integers(0, SIDE - 1))
    return Box(top, left, draw(st.integers(top + 1, SIDE)), draw(st.integers(left + 1, SIDE)))


# Polygons


@settings(deadline=None)
@given(shapes=OUTLINES, box=boxes())
def test_a_part_that_is_drawn_is_the_part_of_the_whole(shapes: list[Outline], box: Box) -> None:
    whole, _ = rasterise(shapes, WHOLE)
    np.testing.assert_array_equal(rasterise(shapes, box)[0], whole[box.slices()])


@settings(deadline=None)
@given(shapes=OUTLINES)
def test_no_pixel_lies_outside_the_box_of_its_object(shapes: list[Outline]) -> None:
    for shape in shapes:
        covered = shape.cover(WHOLE)
        if shape.box is not None:
            rows, columns = (
                np.clip(part, 0, SIDE)
                for part in ((shape.box.top, shape.box.bottom), (shape.box.left, shape.box.right))
            )
            covered[rows[0] : rows[1], columns[0] : columns[1]] = False
        assert not covered.any()


@settings(deadline=None)
@given(corners=CORNERS)
def test_a_pixel_is_inside_if_a_ray_from_its_centre_meets_an_odd_number_of_edges(
    corners: list[tuple[float, float]],
) -> None:
    covered = Outline(((to_ring(corners),),)).cover(WHOLE)
    for row, column in ((0, 0), (5, 7), (12, 12), (23, 3)):
        x, y = column + 0.5, row + 0.5
        odd = False
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            if (y0 <= y) != (y1 <= y):
                (xa, ya), (xb, yb) = ((x0, y0), (x1, y1)) if y0 <= y1 else ((x1, y1), (x0, y0))
                odd ^= xa + (y - ya) * (xb - xa) / (yb - ya) <= x
        assert covered[row, column] == odd


@settings(deadline=None)
@given(cut=st.tuples(*[st.floats(0, SIDE, width=32)] * 2))
def test_polygons_that_share_an_edge_share_no_pixel_and_leave_no_gap(cut: tuple[float, float]) -> None:
    left = Outline(((to_ring([[0, 0], [cut[0], 0], [cut[1], SIDE], [0, SIDE]]),),)).cover(WHOLE)
    right = Outline(((to_ring([[cut[0], 0], [SIDE, 0], [SIDE, SIDE], [cut[1], SIDE]]),),)).cover(WHOLE)
    assert (left ^ right).all()


def test_whole_corners_cover_whole_pixels() -> None:
    covered = Outline(((to_ring(SQUARE),),)).cover(Box(0, 0, 8, 10))
    np.testing.assert_array_equal(covered, marked(slice(1, 5), slice(2, 8)))


def test_an_object_far_away_is_drawn_as_exactly() -> None:
    far = to_ring(np.array(SQUARE, float) + 90_000_000)
    covered = Outline(((far,),)).cover(Box(90_000_000, 90_000_000, 90_000_008, 90_000_010))
    np.testing.assert_array_equal(covered, marked(slice(1, 5), slice(2, 8)))


def test_of_overlapping_polygons_the_smaller_one_is_seen() -> None:
    large, small = (Outline(((to_ring(ring),),)) for ring in (SQUARE, HOLE))
    for shapes in ([large, small], [small, large]):
        labels, contested = rasterise(shapes, Box(0, 0, 8, 10))
        assert labels[2, 4] == shapes.index(small) + 1
        assert contested == 4


@pytest.mark.parametrize(
    "points",
    [[], [[1, 2], [3, 4]], [1, 2, 3], [[1], [2], [3]], [[0, 0], [1, 1], [float("nan"), 2]], [[0, 0], [9e9, 1], [1, 2]]],
)
def test_what_is_no_ring_is_refused(points: Any) -> None:
    with pytest.raises(ValueError, match=r"ring|corner|inhomogeneous"):
        to_ring(points)


# Run lengths


@settings(deadline=None)
@given(mask=arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_run_lengths_go_there_and_back(mask: NDArray[np.bool_]) -> None:
    runs = runs_of(mask)
    assert uncompress_runs(compressed(runs)) == runs
    np.testing.assert_array_equal(Stamp(tuple(runs), *mask.shape).cover(Box(0, 0, *mask.shape)), mask)


@given(runs=st.lists(st.integers(0, 2**40)))
def test_runs_of_any_length_are_uncompressed(runs: list[int]) -> None:
    assert uncompress_runs(compressed(runs)) == runs


@pytest.mark.parametrize("text", ["\x00", "é", "o", "ooooooooooooooooooo0"])
def test_what_are_no_run_lengths_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        uncompress_runs(text)


@settings(deadline=None)
@given(mask=arrays.arrays(bool, (SIDE, SIDE)), box=boxes())
def test_a_part_of_an_object_of_run_lengths_is_the_part_of_the_whole(mask: NDArray[np.bool_], box: Box) -> None:
    labels, _ = rasterise([Stamp(tuple(runs_of(mask)), SIDE, SIDE)], box)
    np.testing.assert_array_equal(labels, mask[box.slices()])


# Large objects, and many


@settings(deadline=None)
@given(shapes=OUTLINES, strip=st.integers(1, 60))
def test_strips_add_up_to_the_whole(shapes: list[Outline], strip: int) -> None:
    whole = rasterise(shapes, WHOLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.annotations.outlines.STRIP", strip)
        in_strips = rasterise(shapes, WHOLE)
    np.testing.assert_array_equal(in_strips[0], whole[0])
    assert in_strips[1] == whole[1]


def test_a_large_object_takes_hardly_more_memory_than_its_labels() -> None:
    side = 6000
    square = Outline(((to_ring([[0, 0], [side, 0], [side, side], [0, side]]),),))
    tracemalloc.start()
    labels, _ = rasterise([square], Box(0, 0, side, side))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert labels.all()
    assert peak < labels.nbytes + 40e6


def test_an_object_of_many_small_polygons_is_drawn_polygon_by_polygon() -> None:
    places = np.random.default_rng(0).integers(0, 3990, (400, 2)).tolist()
    specks = tuple((to_ring([[x, y], [x + 4, y], [x + 4, y + 4], [x, y + 4]]),) for x, y in places)
    begun = time.process_time()
    rasterise([Outline(specks)], Box(0, 0, 4000, 4000))
    assert time.process_time() - begun < 5  # seconds; the whole box for each polygon would take a minute


def test_drawing_can_be_broken_off_between_objects() -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    square = Outline(((to_ring(SQUARE),),))
    with pytest.raises(Stop):
        rasterise([square], WHOLE, check=stop)
