"""Scores of objects, against a slow reading of their definitions and cases worked by hand."""

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shared.imaging.metrics.instances import (
    IOU_THRESHOLDS,
    PanopticQuality,
    find_overlaps,
    label_components,
    renumber,
)

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=8)
LABELS = st.sampled_from([0, 1, 2, 7, 10**15, -3])
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(*[arrays.arrays(np.int64, shape, elements=LABELS)] * 2))


def _objects(labels: np.ndarray) -> list[np.ndarray]:
    return [labels == label for label in np.unique(labels) if label]


def _iou(one: np.ndarray, other: np.ndarray) -> Fraction:
    return Fraction(int((one & other).sum()), int((one | other).sum()))


@settings(deadline=None)
@given(pair=PAIRS)
def test_average_precision_is_its_definition(pair: tuple[np.ndarray, np.ndarray]) -> None:
    true, found = (_objects(labels) for labels in pair)
    overlaps, precisions = find_overlaps(*pair), []
    for percent, threshold in zip(range(50, 100, 5), IOU_THRESHOLDS, strict=True):
        hits = sum(_iou(one, other) > Fraction(percent, 100) for one in true for other in found)
        precisions.append(hits / (len(true) + len(found) - hits) if true or found else 1.0)
        assert overlaps.average_precision(threshold) == precisions[-1]
    assert overlaps.mean_average_precision() == pytest.approx(np.mean(precisions))
    assert overlaps.count_error() == len(found) - len(true)


@settings(deadline=None)
@given(pair=PAIRS)
def test_panoptic_quality_is_its_definition(pair: tuple[np.ndarray, np.ndarray]) -> None:
    true, found = (_objects(labels) for labels in pair)
    ious = [iou for one in true for other in found if (iou := _iou(one, other)) > Fraction(1, 2)]
    misses, inventions = len(true) - len(ious), len(found) - len(ious)
    quality = find_overlaps(*pair).panoptic_quality()
    if true or found:
        assert quality.pq == pytest.approx(float(sum(ious) / (len(ious) + Fraction(misses + inventions, 2))))
        assert quality.sq == pytest.approx(float(sum(ious) / len(ious)) if ious else 0)
    assert quality.pq == quality.dq * quality.sq


@settings(deadline=None)
@given(pair=PAIRS)
def test_the_aggregated_jaccard_index_is_its_algorithm(pair: tuple[np.ndarray, np.ndarray]) -> None:
    true, found = (_objects(labels) for labels in pair)
    shared, union, used = 0, 0, set()
    for one in true:
        best = max(range(len(found)), key=lambda k: _iou(one, found[k]), default=None)
        if best is None or not (one & found[best]).any():
            union += int(one.sum())
            continue
        used.add(best)
        shared += int((one & found[best]).sum())
        union += int((one | found[best]).sum())
    union += sum(int(other.sum()) for k, other in enumerate(found) if k not in used)
    assert find_overlaps(*pair).aggregated_jaccard() == (shared / union if union else 1.0)


@given(pair=PAIRS, order=st.permutations([1, 2, 3, 4, 5]))
def test_labels_are_only_names_and_every_score_keeps_its_bounds(
    pair: tuple[np.ndarray, np.ndarray], order: list[int]
) -> None:
    truth, found = pair
    names = dict(zip([1, 2, 7, 10**15, -3], order, strict=True)) | {0: 0}
    renamed = np.vectorize(names.get)(truth)
    one, other = find_overlaps(truth, found), find_overlaps(renamed, found)
    for read in ("mean_average_precision", "aggregated_jaccard"):
        assert getattr(one, read)() == pytest.approx(getattr(other, read)())
        assert 0 <= getattr(one, read)() <= 1
    assert one.panoptic_quality().pq == pytest.approx(other.panoptic_quality().pq)
    assert 0 <= one.panoptic_quality().pq <= 1
    same = find_overlaps(truth, renamed)
    assert (same.mean_average_precision(), same.panoptic_quality().pq, same.aggregated_jaccard()) == (1, 1, 1)


def test_exactly_half_an_overlap_is_no_match() -> None:
    truth, found = np.array([[1, 1]]), np.array([[5, 6]])
    overlaps = find_overlaps(truth, found)
    assert overlaps.ious.tolist() == [0.5, 0.5]
    assert overlaps.average_precision(0.5) == 0
    assert overlaps.panoptic_quality() == PanopticQuality(0.0, 0.0, 0.0)


def test_three_objects_worked_by_hand() -> None:
    truth = np.array([[1] * 4 + [0] * 2 + [2] * 4 + [0] * 2 + [3] * 2])
    found = np.array([[9] * 3 + [0] * 3 + [8] * 5 + [7] * 1 + [0] * 2])
    overlaps = find_overlaps(truth, found)  # IoU 3/4 and 4/5; one lost, one invented
    assert overlaps.average_precision(0.5) == 2 / 4
    assert overlaps.average_precision(0.75) == 1 / 5
    assert overlaps.mean_average_precision() == pytest.approx((5 * 2 / 4 + 1 * 1 / 5) / 10)
    assert overlaps.panoptic_quality().dq == pytest.approx(2 / 3)
    assert overlaps.panoptic_quality().sq == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert overlaps.aggregated_jaccard() == (3 + 4) / (4 + 5 + 2 + 1)
    assert overlaps.count_error() == 0


def test_a_found_object_may_serve_two_true_ones_in_the_aggregated_index() -> None:
    truth, found = np.array([[1, 1, 2, 2]]), np.array([[4, 4, 4, 4]])
    assert find_overlaps(truth, found).aggregated_jaccard() == (2 + 2) / (4 + 4)


def test_of_equal_partners_the_lowest_label_is_chosen_for_the_aggregated_index() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 0, 0, 0]])
    found = np.array([[5, 0, 6, 6, 6, 6, 6, 6]])  # IoU 1/4 and 2/8
    assert find_overlaps(truth, found).aggregated_jaccard() == 1 / (4 + 6)


@pytest.mark.parametrize(("true", "found", "expected"), [(0, 0, 1.0), (0, 1, 0.0), (1, 0, 0.0)])
def test_without_objects_there_is_a_score(true: int, found: int, expected: float) -> None:
    overlaps = find_overlaps(np.full((2, 3), true), np.full((2, 3), found))
    assert overlaps.average_precision(0.5) == overlaps.mean_average_precision() == expected
    assert overlaps.panoptic_quality() == PanopticQuality(expected, expected, expected)
    assert overlaps.aggregated_jaccard() == expected
    assert overlaps.count_error() == found - true


def test_a_threshold_that_lets_objects_match_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.5 or more"):
        find_overlaps(np.array([[1]]), np.array([[1]])).average_precision(0.4)
    with pytest.raises(ValueError, match="not of one shape"):
        find_overlaps(np.array([[1]]), np.array([[1, 1]]))


@pytest.mark.parametrize("number_type", [np.uint8, np.uint16, np.int32, np.uint64, bool])
def test_labels_may_be_of_any_integer_type(number_type: type) -> None:
    labels, numbers = renumber(np.array([[0, 1], [1, 0]], dtype=number_type))
    assert (labels.tolist(), numbers.tolist()) == ([1], [[0, 1], [1, 0]])


def test_components_touch_by_their_sides() -> None:
    assert label_components(np.array([[1, 0, 1], [0, 1, 1]], dtype=bool)).tolist() == [[1, 0, 2], [0, 2, 2]]


def test_a_thousand_objects_take_less_than_a_second() -> None:
    rows, columns = np.mgrid[:1024, :1024]
    inside = np.hypot(rows % 32 - 16, columns % 32 - 16) < 12
    truth = np.where(inside, 10**6 * (rows // 32 * 32 + columns // 32 + 1), 0)
    start = time.process_time()
    overlaps = find_overlaps(truth, np.roll(truth, 1, axis=0))
    overlaps.mean_average_precision(), overlaps.panoptic_quality()
    assert overlaps.aggregated_jaccard() > 0.8
    assert time.process_time() - start < 1
    assert overlaps.truth_areas.size == 1024
