from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from shared.imaging.objects.pieces import Pieces, measure_pieces, merge
from shared.imaging.objects.table import Outlines
from shared.imaging.tiling import Box
from tests.unit.objects.drawn import Labels, cut, cuts, label_arrays

TOP, LEFT = 300, 50


def measure(labels: Labels, channels: NDArray[np.generic], *, top: int = TOP, left: int = LEFT) -> Pieces:
    """Pieces of an image whose classes and probabilities follow from the places of its pixels."""
    height, width = labels.shape
    rows, columns = np.ogrid[top : top + height, left : left + width]
    planes = np.stack([(rows * 7 + columns * 3 + index * 11) % 256 for index in range(3)]).astype(np.uint8)
    classes = ((rows + columns) % 3).astype(np.uint8)
    return measure_pieces(labels, classes, planes, channels, Box(top, left, top + height, left + width))


def assert_equal(one: Pieces, other: Pieces) -> None:
    for field in fields(Pieces):
        if field.name != "outlines":
            ours, theirs = getattr(one, field.name), getattr(other, field.name)
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
    for field in fields(Outlines):
        np.testing.assert_array_equal(getattr(one.outlines, field.name), getattr(other.outlines, field.name))


def values_of(labels: Labels) -> st.SearchStrategy[NDArray[np.uint16]]:
    return arrays(np.uint16, (*labels.shape, 2))


@given(st.data(), label_arrays())
def test_the_figures_of_an_object_are_those_of_its_pixels(data: st.DataObject, labels: Labels) -> None:
    channels = data.draw(values_of(labels))
    pieces = measure(labels, channels)
    assert len(pieces) == labels.max()
    for index in range(len(pieces)):
        rows, columns = np.nonzero(labels == index + 1)
        values = channels[rows, columns].astype(np.float64)
        rows, columns = rows + TOP, columns + LEFT
        assert pieces.areas[index] == rows.size
        assert pieces.anchors[index].tolist() == [rows[0], columns[0]]
        assert pieces.boxes[index].tolist() == [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
        products = [rows, columns, rows * rows, rows * columns, columns * columns]
        assert pieces.moments[index].tolist() == [product.sum() for product in products]
        assert pieces.votes[index].tolist() == np.bincount((rows + columns) % 3, minlength=3).tolist()
        assert pieces.planes[index].tolist() == [((rows * 7 + columns * 3 + 11 * k) % 256).sum() for k in range(3)]
        assert pieces.counts[index].tolist() == [rows.size] * 2
        np.testing.assert_array_equal(pieces.sums[index], values.sum(axis=0))
        np.testing.assert_array_equal(pieces.squares[index], (values**2).sum(axis=0))
        np.testing.assert_array_equal(pieces.lows[index], values.min(axis=0))
        np.testing.assert_array_equal(pieces.highs[index], values.max(axis=0))


@given(st.data(), label_arrays())
def test_pieces_merged_from_any_cuts_are_the_pieces_of_the_whole(data: st.DataObject, labels: Labels) -> None:
    channels = data.draw(values_of(labels))
    parts = [
        (measure(pieces, channels[down, across], top=TOP + down.start, left=LEFT + across.start), owners)
        for down, across, pieces, owners in cut(
            labels, data.draw(cuts(labels.shape[0])), data.draw(cuts(labels.shape[1]))
        )
    ]
    merged = merge([part for part, _ in parts], [owners for _, owners in parts])
    assert_equal(merged, measure(labels, channels))


@given(label_arrays())
def test_pieces_stored_and_read_again_are_the_same(labels: Labels) -> None:
    pieces = measure(labels, np.full((*labels.shape, 1), 0.25))
    assert_equal(Pieces.from_arrays(pieces.to_arrays()), pieces)


def test_pieces_without_a_value_are_stored_as_well() -> None:
    pieces = measure(np.ones((2, 2), np.uint32), np.full((2, 2, 1), np.nan))
    assert_equal(Pieces.from_arrays(pieces.to_arrays()), pieces)


def test_pieces_of_a_large_image_are_stored_in_small_numbers() -> None:
    labels = np.ones((20, 20), np.uint32)
    arrays_ = measure(labels, np.zeros((20, 20, 1), np.uint8), top=90_000, left=80_000).to_arrays()
    assert [arrays_[name].dtype.name for name in ("corners", "areas")] == ["uint8", "uint16"]


def test_moments_that_overflow_are_stored_as_they_are() -> None:
    pieces = measure(np.ones((2, 2), np.uint32), np.zeros((2, 2, 1), np.uint8))
    pieces.moments[0] = [-(2**63), 2**63 - 1, 0, -1, 1]
    assert_equal(Pieces.from_arrays(pieces.to_arrays()), pieces)


def test_pieces_taken_come_in_the_order_asked_for() -> None:
    labels = np.array([[1, 0, 2, 2, 0, 3]], np.uint32)
    taken = measure(labels, labels[..., None]).take(np.array([2, 1]))
    assert_equal(taken, measure(np.array([[0, 0, 2, 2, 0, 1]], np.uint32), labels[..., None]))


@given(label_arrays(), label_arrays())
def test_pieces_put_together_are_taken_apart_again(one: Labels, other: Labels) -> None:
    parts = [measure(labels, labels[..., None]) for labels in (one, other)]
    together = Pieces.concatenate(parts)
    assert_equal(together.take(np.arange(len(parts[0]))), parts[0])
    assert_equal(together.take(len(parts[0]) + np.arange(len(parts[1]))), parts[1])


def test_a_piece_of_no_group_is_left_out() -> None:
    labels = np.array([[1, 2]], np.uint32)
    channels = np.array([[[5], [9]]], np.uint8)
    merged = merge([measure(labels, channels)], [np.array([-1, 0])])
    assert_equal(merged, measure(np.array([[0, 1]], np.uint32), channels))


def test_a_block_without_objects_has_no_pieces() -> None:
    pieces = measure(np.zeros((3, 4), np.uint32), np.zeros((3, 4, 2), np.uint8))
    assert (len(pieces), pieces.votes.shape, pieces.sums.shape) == (0, (0, 3), (0, 2))


def test_blocks_without_objects_merge_to_nothing() -> None:
    empty = measure(np.zeros((3, 4), np.uint32), np.zeros((3, 4, 2), np.uint8))
    assert_equal(merge([empty, empty], [np.empty(0, int)] * 2), empty)


def test_a_pixel_that_is_no_number_has_no_value_in_its_channel_alone() -> None:
    channels = np.array([[[1, 1], [np.nan, 2], [np.inf, 3], [4, 4]]], np.float32)
    pieces = measure(np.ones((1, 4), np.uint32), channels)
    assert pieces.counts.tolist() == [[2, 4]]
    assert pieces.sums.tolist() == [[5, 10]]
    assert pieces.squares.tolist() == [[17, 30]]
    assert (pieces.lows.tolist(), pieces.highs.tolist()) == ([[1, 1]], [[4, 4]])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bool", 1),
        ("uint8", 255),
        ("int16", -(2**15)),
        ("uint16", 2**16 - 1),
        ("int32", -(2**31)),
        ("uint32", 2**32 - 1),
        ("float16", 65504),
        ("float32", 2.0**100),
    ],
)
def test_values_of_any_type_are_added_without_overflow(kind: str, value: float) -> None:
    pieces = measure(np.ones((100, 100), np.uint32), np.full((100, 100, 1), value, dtype=kind))
    assert pieces.sums[0, 0] == value * 10_000
    assert pieces.squares[0, 0] == pytest.approx(value**2 * 10_000, rel=1e-12)


def test_objects_longer_than_what_is_looked_at_together_are_added_up_whole() -> None:
    labels = np.ones((700, 1000), np.uint32)
    labels[:, 500:] = 2
    pieces = measure(labels, labels[..., None].astype(np.uint8))
    assert pieces.sums[:, 0].tolist() == [350_000, 700_000]


def test_a_window_of_a_larger_array_is_measured_as_its_copy() -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    labels = np.ones((10, 12), np.uint32)
    window = whole[5:15, 7:19, ::2]
    assert_equal(measure(labels, window), measure(labels, np.ascontiguousarray(window)))


def test_a_label_that_does_not_occur_is_refused() -> None:
    with pytest.raises(ValueError, match="object 2 of 3 has no pixel"):
        measure(np.array([[1, 3]], np.uint32), np.zeros((1, 2, 1)))


def test_a_class_without_a_plane_is_refused() -> None:
    one = np.ones((1, 1), np.uint32)
    with pytest.raises(ValueError, match="class 2 has no plane"):
        measure_pieces(one, np.full((1, 1), 2, np.uint8), np.ones((1, 1, 1), np.uint8), one[..., None], Box(0, 0, 1, 1))


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"for \(1, 2\)"):
        measure(np.ones((1, 2), np.uint32), np.zeros((1, 3, 1)))
