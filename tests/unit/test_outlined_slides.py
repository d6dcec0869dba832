"""Outlines on slides that are too large for a mask: what ingest says of them without drawing them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.worker.stages.transform import refuse_large
from shared.annotations import Shapes, check_shapes
from shared.annotations.outlines import Outline, Stamp, to_ring
from shared.errors import Rejected
from shared.examination.labels import describe_objects, examine_labels
from shared.imaging.steps.views import Frame
from shared.schemas.steps import as_json, read_steps

SIDE = 100_000  # px, of a slide


def rectangle(top: float, left: float, height: float, width: float, category: int = 0) -> Outline:
    corners = [[left, top], [left + width, top], [left + width, top + height], [left, top + height]]
    return Outline(((to_ring(corners),),), category)


def codes(*outlines: Outline) -> list[tuple[str, str]]:
    found = check_shapes(Shapes("a.geojson", outlines), height=SIDE, width=SIDE)
    return [(problem.code, problem.severity) for problem in found]


@pytest.mark.parametrize(
    ("outlines", "expected"),
    [
        ([rectangle(5, 5, 20, 20)], []),
        ([], [("mask_empty", "warning")]),
        ([rectangle(SIDE, 5, 20, 20), rectangle(5, -20, 20, 20)], [("mask_size", "error")]),
        ([rectangle(5, 5, 20, 20), rectangle(SIDE + 1, 5, 20, 20)], [("objects_outside", "warning")]),
        ([rectangle(5, 5, 2, 2), rectangle(50, 50, 2, 2)], [("objects_tiny", "warning")]),
    ],
)
def test_what_is_wrong_with_outlines_is_told_by_their_places_and_areas(outlines: Any, expected: Any) -> None:
    assert codes(*outlines) == expected


def test_coordinates_that_do_not_fit_are_told_with_the_mend() -> None:
    [problem] = check_shapes(Shapes("a.geojson", [rectangle(SIDE, 0, 9, 9)]), height=SIDE, width=SIDE)
    assert "outside the image of 100000 × 100000 px" in problem.text
    assert "full resolution" in problem.text


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3)), max_size=8), named=st.booleans()
)
def test_objects_that_lie_apart_have_the_statistics_of_their_mask(
    sizes: list[tuple[int, int, int]], named: bool
) -> None:
    names = {number: f"class {number}" for number in (1, 2, 3)} if named else {}
    shapes = Shapes("a", [rectangle(3, 12 * i, *size) for i, size in enumerate(sizes)], names)
    labels = np.zeros((16, 120), np.int32)
    for number, (height, width, _) in enumerate(sizes, 1):
        labels[3 : 3 + height, 12 * (number - 1) : 12 * (number - 1) + width] = number
    classes = np.array([0, *(category for *_, category in sizes)], np.uint8)[labels] if named else None
    drawn = examine_labels(labels, classes).model_copy(update={"touching": None, "cut": None})
    assert describe_objects(shapes.areas, shapes.categories if named else None, pixels=labels.size) == drawn


def test_a_small_picture_shows_where_each_object_lies() -> None:
    shapes = Shapes("a", [rectangle(50_000, 20_000, 20_000, 10_000), rectangle(90_100, 10_300, 40, 40)])
    picture = shapes.sketch((SIDE, SIDE), 100, 100)
    expected = np.zeros((100, 100), np.int32)
    expected[50:70, 20:30] = 1
    expected[90, 10] = 2
    np.testing.assert_array_equal(picture, expected)


def test_an_object_outside_the_image_is_not_in_the_picture() -> None:
    shapes = Shapes("a", [rectangle(SIDE + 500, 500, 40, 40), rectangle(500, -500, 40, 40)])
    assert not shapes.sketch((SIDE, SIDE), 100, 100).any()


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([{"step": "greyscale"}], "100000 × 100000 px are too many .* add the step `tile`, or `resize` it"),
        ([{"step": "tile", "size": 256}], "more than 40,000 outputs .* cut larger tiles"),
    ],
)
def test_what_would_be_too_much_is_refused_before_anything_is_read(steps: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(Rejected, match=f"^a.svs: .*{reason}"):
        refuse_large(Frame("a.svs", SIDE, SIDE), as_json(read_steps(steps)))


@pytest.mark.parametrize(
    "steps",
    [
        [{"step": "resize", "scale": 0.1}],
        [{"step": "tile", "size": 512}],
        [{"step": "tile", "size": 256, "least_foreground": 0.1}],
        [{"step": "resize", "scale": 0.5}, {"step": "tile", "size": 256}],
    ],
)
def test_what_fits_is_not_refused(steps: list[dict[str, Any]]) -> None:
    refuse_large(Frame("a.svs", SIDE, SIDE), as_json(read_steps(steps)))


@given(mask=arrays(bool, (12, 15)))
def test_the_box_of_run_lengths_holds_all_their_pixels(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    stamp = Stamp(tuple(np.diff([0, *changes, flat.size]).tolist()), *mask.shape)
    assert (stamp.box is None) == (not mask.any())
    if stamp.box is not None:
        rest = mask.copy()
        rest[stamp.box.slices()] = False
        assert not rest.any()


def test_an_object_of_run_lengths_is_a_rectangle_in_the_picture() -> None:
    runs = [30 * 1000 + 100]
    for _ in range(50):
        runs += [200, 800]
    runs[-1] = 1000 * 1000 - sum(runs[:-1])
    picture = Shapes("a", [Stamp(tuple(runs), 1000, 1000)]).sketch((1000, 1000), 100, 100)
    expected = np.zeros((100, 100), np.int32)
    expected[10:30, 3:8] = 1
    np.testing.assert_array_equal(picture, expected)
