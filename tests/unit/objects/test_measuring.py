from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import perimeter_crofton, regionprops

from shared.imaging.objects.measuring import Legend, describe, finish, locate
from shared.imaging.objects.pieces import Pieces, measure_pieces
from shared.imaging.objects.table import Column
from shared.imaging.tiling import Box
from tests.unit.objects.drawn import Labels, label_arrays

LEGEND = Legend(classes=("background", "nucleus"), channels=("grey",))


def measure(labels: Labels, *, at: tuple[int, int] = (0, 0)) -> Pieces:
    """Pieces of an image of a grey that differs from pixel to pixel; probability 200 / 255."""
    height, width = labels.shape
    box = Box(at[0], at[1], at[0] + height, at[1] + width)
    grey = (np.arange(height * width) * 37 % 251).reshape(height, width, 1).astype(np.uint8)
    return measure_pieces(labels, (labels > 0).astype(np.uint8), np.full((1, height, width), 200, np.uint8), grey, box)


def vote(classes: list[int], planes: list[list[int]], border_class: int | None = None) -> dict[str, Column]:
    """The columns of one object, a row of pixels of these classes and these probabilities per plane."""
    width = len(classes)
    pieces = measure_pieces(
        np.ones((1, width), np.uint32),
        np.array([classes], np.uint8),
        np.array(planes, np.uint8)[:, None],
        np.zeros((1, width, 1), np.uint8),
        Box(0, 0, 1, width),
    )
    names = ("background", "red", "blue", "green")[: max(len(planes), 2)]
    return describe(pieces, replace(LEGEND, classes=names, border_class=border_class))


@settings(max_examples=60)
@given(label_arrays())
def test_perimeters_are_those_of_scikit_image(labels: Labels) -> None:
    expected = [perimeter_crofton(labels == label, directions=4) for label in range(1, int(labels.max()) + 1)]
    np.testing.assert_allclose(describe(measure(labels), LEGEND)["perimeter_px"], expected, rtol=1e-12)


@settings(max_examples=60)
@given(label_arrays())
def test_shapes_are_those_of_scikit_image(labels: Labels) -> None:
    columns = describe(measure(labels), LEGEND)
    for index, region in enumerate(regionprops(labels.astype(np.int32))):
        found = {name: column[index] for name, column in columns.items()}
        assert (found["centroid_y_px"] - 0.5, found["centroid_x_px"] - 0.5) == pytest.approx(region.centroid)
        assert tuple(found[f"{side}_px"] for side in ("top", "left", "bottom", "right")) == region.bbox
        assert found["equivalent_diameter_px"] == pytest.approx(region.equivalent_diameter_area)
        assert found["eccentricity"] == pytest.approx(region.eccentricity, abs=1e-6)
        if found["eccentricity"] > 1e-3:  # a circle has no orientation
            turned = np.radians(found["orientation_deg"] - 90) - region.orientation  # theirs is from the row axis
            assert abs(np.sin(turned)) == pytest.approx(0, abs=1e-6)


@given(label_arrays())
def test_intensities_are_those_of_the_pixels(labels: Labels) -> None:
    grey = (np.arange(labels.size) * 37 % 251).reshape(labels.shape)
    columns = describe(measure(labels), LEGEND)
    values = [grey[labels == label] for label in range(1, int(labels.max()) + 1)]
    np.testing.assert_allclose(columns["mean_grey"], [value.mean() for value in values])
    np.testing.assert_allclose(columns["std_grey"], [value.std() for value in values], atol=1e-6)
    np.testing.assert_array_equal(columns["min_grey"], [value.min() for value in values])
    np.testing.assert_array_equal(columns["max_grey"], [value.max() for value in values])


@given(label_arrays(), st.integers(0, 200_000), st.integers(0, 200_000))
def test_far_from_the_origin_shapes_are_the_same_to_the_last_digit(labels: Labels, top: int, left: int) -> None:
    near, far = describe(measure(labels), LEGEND), describe(measure(labels, at=(top, left)), LEGEND)
    np.testing.assert_allclose(far["centroid_x_px"], near["centroid_x_px"] + left, rtol=1e-15)
    for name in ("eccentricity", "orientation_deg", "solidity", "perimeter_px"):
        np.testing.assert_array_equal(far[name], near[name])


def test_a_giant_whose_moments_overflow_is_measured_right() -> None:
    side, far = 100_000, 3_000_000
    span = range(far, far + side)
    rows, squares = sum(span), sum(place * place for place in span)
    exact = [rows * side, rows * side, squares * side, rows * rows, squares * side]
    assert max(exact) > 2**63
    moments = np.array([[(value + 2**63) % 2**64 - 2**63 for value in exact]])
    giant = replace(measure(np.ones((1, 1), np.uint32)), areas=np.array([side * side]), moments=moments)
    columns = describe(giant, LEGEND)
    assert columns["centroid_x_px"][0] == far + side / 2
    assert columns["eccentricity"][0] == 0


def test_orientation_is_anticlockwise_from_the_x_axis() -> None:
    rising = np.array([[0, 1, 1], [1, 1, 1], [1, 1, 0]], np.uint32)
    degrees = [describe(measure(labels), LEGEND)["orientation_deg"][0] for labels in (rising, rising[::-1])]
    assert degrees == [45, -45]


@pytest.mark.parametrize(("shape", "degrees", "eccentricity"), [((1, 9), 0, 1), ((9, 1), 90, 1), ((4, 4), 0, 0)])
def test_lines_and_squares_have_the_extremes(shape: tuple[int, int], degrees: float, eccentricity: float) -> None:
    columns = describe(measure(np.ones(shape, np.uint32)), LEGEND)
    assert (columns["orientation_deg"][0], columns["eccentricity"][0]) == (degrees, eccentricity)


@given(label_arrays())
def test_solidity_is_the_share_of_the_hull_that_is_filled(labels: Labels) -> None:
    solidity = describe(measure(labels), LEGEND)["solidity"]
    for index in range(solidity.size):
        rows, columns = np.nonzero(labels == index + 1)
        squares = shapely.box(columns, rows, columns + 1, rows + 1)
        assert solidity[index] == pytest.approx(rows.size / shapely.union_all(squares).convex_hull.area)


def test_the_class_of_most_pixels_wins() -> None:
    columns = vote([1, 2, 2], [[0] * 3, [255, 90, 90], [0, 160, 165]])
    assert columns["class"].tolist() == ["blue"]
    assert columns["class_probability"][0] == pytest.approx(325 / 3 / 255)
    assert columns["probability"][0] == 1


def test_of_two_classes_with_as_many_pixels_the_more_probable_wins() -> None:
    assert vote([1, 2], [[0, 0], [150, 100], [100, 151]])["class"].tolist() == ["blue"]


def test_of_two_classes_that_are_equal_in_all_the_first_wins() -> None:
    assert vote([1, 2], [[0, 0], [150, 100], [100, 150]])["class"].tolist() == ["red"]


def test_the_background_has_no_vote() -> None:
    assert vote([0, 0, 2], [[255, 255, 0], [0, 0, 0], [0, 0, 255]])["class"].tolist() == ["blue"]


def test_the_border_between_objects_has_no_vote() -> None:
    columns = vote([2, 2, 1], [[0] * 3, [55, 55, 200], [200, 200, 55]], border_class=2)
    assert columns["class"].tolist() == ["red"]


def test_without_a_vote_the_most_probable_class_wins() -> None:
    columns = vote([3, 3], [[0] * 2, [50] * 2, [60] * 2, [145] * 2], border_class=3)
    assert columns["class"].tolist() == ["blue"]


def test_the_one_plane_of_two_classes_is_the_foreground() -> None:
    columns = vote([1, 1, 0], [[255, 255, 0]])
    assert columns["class_probability"][0] == columns["probability"][0] == pytest.approx(2 / 3)


def test_a_channel_without_a_value_is_nan() -> None:
    one = np.ones((1, 2), np.uint32)
    nothing = np.full((1, 2, 1), np.nan)
    pieces = measure_pieces(one, one.astype(np.uint8), np.ones((1, 1, 2), np.uint8), nothing, Box(0, 0, 1, 2))
    columns = describe(pieces, LEGEND)
    assert np.isnan([columns[f"{figure}_grey"][0] for figure in ("mean", "std", "min", "max")]).all()


def test_an_object_of_one_value_does_not_spread() -> None:
    one = np.ones((3, 3), np.uint32)
    tenths = np.full((3, 3, 1), 0.1)
    pieces = measure_pieces(one, one.astype(np.uint8), np.ones((1, 3, 3), np.uint8), tenths, Box(0, 0, 3, 3))
    assert describe(pieces, LEGEND)["std_grey"].tolist() == [0]


def test_the_centroid_of_a_pixel_is_its_middle() -> None:
    assert locate(measure(np.ones((1, 1), np.uint32), at=(7, 3))).tolist() == [[3.5, 7.5]]


def test_a_table_has_its_columns_in_order() -> None:
    legend = replace(LEGEND, mpp=0.5)
    table = finish(
        measure(np.ones((2, 2), np.uint32)), legend, labels=np.array([9], np.uint32), nearest=np.array([4.0])
    )
    assert list(table.columns) == [
        *("label", "class", "class_probability", "probability", "centroid_x_px", "centroid_y_px"),
        *("left_px", "top_px", "right_px", "bottom_px", "area_px2", "perimeter_px", "equivalent_diameter_px"),
        *("eccentricity", "solidity", "orientation_deg", "mean_grey", "std_grey", "min_grey", "max_grey", "nearest_px"),
        *("centroid_x_um", "centroid_y_um", "area_um2", "perimeter_um", "equivalent_diameter_um", "nearest_um"),
    ]


def test_microns_follow_from_the_size_of_a_pixel() -> None:
    table = finish(
        measure(np.ones((2, 2), np.uint32)),
        replace(LEGEND, mpp=0.5),
        labels=np.array([1], np.uint32),
        nearest=np.array([4.0]),
    )
    found = [table.columns[name][0] for name in ("centroid_x_um", "area_um2", "nearest_um")]
    assert found == [0.5, 1, 2]


def test_without_the_size_of_a_pixel_there_are_no_microns() -> None:
    table = finish(
        measure(np.ones((2, 2), np.uint32)), LEGEND, labels=np.array([1], np.uint32), nearest=np.array([np.nan])
    )
    assert [name for name in table.columns if "um" in name] == []


def test_an_image_without_objects_has_an_empty_table() -> None:
    table = finish(
        measure(np.zeros((2, 2), np.uint32)),
        replace(LEGEND, mpp=1.0),
        labels=np.empty(0, np.uint32),
        nearest=np.empty(0),
    )
    assert {column.size for column in table.columns.values()} == {0}


def test_labels_that_do_not_ascend_are_refused() -> None:
    pieces = measure(np.array([[1, 0, 2]], np.uint32))
    with pytest.raises(ValueError, match="ascend"):
        finish(pieces, LEGEND, labels=np.array([2, 1], np.uint32), nearest=np.zeros(2))


def test_a_legend_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="2 classes and 1 channels"):
        describe(measure(np.ones((1, 1), np.uint32)), replace(LEGEND, channels=("red", "green")))
