"""What the labels of an image say."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.examination.labels import Labels, examine_labels

SHAPE = st.tuples(st.integers(1, 9), st.integers(1, 9))
LABELS = SHAPE.flatmap(lambda shape: arrays(np.uint16, shape, elements=st.integers(0, 6)))


def list_touching(labels: Labels) -> set[int]:
    """The plain way: every pixel and its neighbours to the right and below."""
    found: set[int] = set()
    for row, column in np.ndindex(labels.shape):
        for other in ((row + 1, column), (row, column + 1)):
            if other[0] < labels.shape[0] and other[1] < labels.shape[1]:
                pair = {int(labels[row, column]), int(labels[other])}
                found |= pair if len(pair) == 2 and 0 not in pair else set()
    return found


@given(labels=LABELS)
def test_objects_and_touching_ones_are_counted_as_by_hand(labels: Labels) -> None:
    found = examine_labels(labels, None)
    assert found.objects == len(set(labels.ravel().tolist()) - {0})
    assert found.touching == len(list_touching(labels))


@given(labels=LABELS, factor=st.sampled_from([1, 37, 600_000_000]))
def test_the_numbers_of_labels_do_not_matter(labels: Labels, factor: int) -> None:
    assert examine_labels(labels.astype(np.uint32) * factor, None) == examine_labels(labels, None)


@given(labels=LABELS)
def test_every_object_is_in_one_bin_of_its_size(labels: Labels) -> None:
    found = examine_labels(labels, None)
    counts = np.bincount(labels.ravel())[1:]
    expected = [int(((counts >= 2**power) & (counts < 2 ** (power + 1))).sum()) for power in range(32)]
    assert found.sizes == expected


def test_bands_do_not_hide_that_objects_touch(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.repeat(np.arange(1, 31, dtype=np.uint16), 10).reshape(30, 10)
    monkeypatch.setattr("shared.examination.labels.BAND", 10)
    assert examine_labels(labels, None).touching == 30


def test_objects_that_the_border_cuts_are_counted() -> None:
    labels = np.zeros((20, 20), np.uint16)
    labels[0:3, 5:8], labels[10:13, 10:13] = 1, 2
    assert examine_labels(labels, None).cut == 1


def test_an_object_is_of_the_class_of_most_of_its_pixels() -> None:
    labels = np.zeros((10, 10), np.uint16)
    labels[:2], labels[5:7] = 1, 2
    classes = np.zeros((10, 10), np.uint8)
    classes[:2], classes[0, :4], classes[5:7] = 3, 1, 1
    found = examine_labels(labels, classes).classes
    assert {number: one.objects for number, one in found.items()} == {1: 1, 3: 1}
    assert {number: one.pixels for number, one in found.items()} == {1: 24, 3: 16}


def test_classes_alone_tell_no_objects() -> None:
    classes = np.array([[0, 1], [2, 2]], np.uint8)
    found = examine_labels(None, classes)
    assert (found.objects, found.touching, found.foreground) == (None, None, 0.75)
    assert found.classes[2].fraction == 0.5


def test_an_empty_mask_has_no_sizes() -> None:
    found = examine_labels(np.zeros((4, 4), np.uint16), None)
    assert (found.objects, found.median, found.foreground) == (0, None, 0)


def test_labels_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="of one size"):
        examine_labels(np.zeros((4, 4), np.uint16), np.zeros((4, 5), np.uint8))


def test_ten_thousand_objects_take_a_fraction_of_a_second() -> None:
    places = np.arange(2000) // 20
    labels = (places[:, None] * 100 + places + 1).astype(np.uint16)
    start = time.process_time()
    found = examine_labels(labels, None)
    assert time.process_time() - start < 1.5  # 0.1 s on an idle machine
    assert found.objects == found.touching == 10_000
