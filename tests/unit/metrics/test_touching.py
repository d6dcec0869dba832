"""Scores of objects that touch, against cases worked by hand and a slow reading of their definitions."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shared.imaging.metrics import touching
from shared.imaging.metrics.instances import find_overlaps
from shared.imaging.metrics.touching import (
    LONE,
    CountError,
    assign_to_clusters,
    count_in_clusters,
    count_merges,
    count_splits,
    find_clusters,
    restrict_to_clusters,
)

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=8)
LABELS = st.sampled_from([0, 0, 1, 2, 7, 10**15, -3])
IMAGES = SHAPES.flatmap(lambda shape: arrays.arrays(np.int64, shape, elements=LABELS))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(*[arrays.arrays(np.int64, shape, elements=LABELS)] * 2))

TRUTH = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 3, 3, 3, 3, 0]])  # 1 and 2 touch, 3 stands alone
MERGED = np.where(TRUTH == 2, 1, TRUTH)


def _clusters_by_pixels(truth: np.ndarray, gap: int) -> set[frozenset[int]]:
    """The clusters as sets of labels, by looking at every pair of pixels."""
    clusters = {frozenset([int(label)]) for label in np.unique(truth) if label}
    for one, other in combinations(np.argwhere(truth), 2):
        if truth[tuple(one)] != truth[tuple(other)] and np.abs(one - other).max() <= gap + 1:
            mine, theirs = (next(c for c in clusters if truth[tuple(pixel)] in c) for pixel in (one, other))
            clusters = (clusters - {mine, theirs}) | {mine | theirs}
    return {cluster for cluster in clusters if len(cluster) > 1}


@settings(deadline=None, max_examples=60)
@given(truth=IMAGES, gap=st.integers(0, 3))
def test_clusters_are_what_is_connected_by_pixels_that_lie_near(truth: np.ndarray, gap: int) -> None:
    clusters = find_clusters(truth, gap=gap)
    labels = np.unique(truth[truth != 0])
    found = {frozenset(labels[clusters == number].tolist()) for number in np.unique(clusters[clusters != LONE])}
    assert found == _clusters_by_pixels(truth, gap)


@settings(deadline=None)
@given(truth=IMAGES)
def test_clusters_are_numbered_without_a_gap(truth: np.ndarray) -> None:
    clusters = find_clusters(truth)
    assert set(clusters.tolist()) - {LONE} == set(range(clusters.max(initial=LONE) + 1))


def test_objects_that_touch_at_a_corner_are_a_cluster() -> None:
    assert find_clusters(np.array([[1, 0], [0, 2]])).tolist() == [0, 0]


def test_a_pixel_between_objects_parts_them_unless_the_gap_allows_for_it() -> None:
    truth = np.array([[4, 0, 9]])
    assert find_clusters(truth).tolist() == [LONE, LONE]
    assert find_clusters(truth, gap=1).tolist() == [0, 0]


def test_what_was_found_elsewhere_does_not_count_for_touching_objects() -> None:
    found = TRUTH.copy()
    found[0, 10:13] = [7, 8, 9]  # the lone object in pieces
    restricted = restrict_to_clusters(find_overlaps(TRUTH, found), find_clusters(TRUTH))
    assert restricted.average_precision(0.5) == 1.0


def test_a_merged_pair_is_two_objects_missed_and_one_too_many() -> None:
    restricted = restrict_to_clusters(find_overlaps(TRUTH, MERGED), find_clusters(TRUTH))
    assert restricted.objects == 3
    assert restricted.count_matches(0.5) == 0  # an IoU of one half is no match


def test_an_object_that_lies_mostly_on_background_was_found_in_no_cluster() -> None:
    found = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 5, 5, 0]])
    truth = np.array([[1, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0]])
    found[0, 6] = 5  # one pixel of three
    assert assign_to_clusters(find_overlaps(truth, found), find_clusters(truth)).tolist() == [0, 0, LONE]


def test_an_object_over_two_clusters_counts_for_the_one_that_has_more_of_it() -> None:
    truth = np.array([[1, 2, 0, 3, 3, 4, 4]])
    found = np.array([[0, 5, 5, 5, 5, 5, 5]])
    overlaps, clusters = find_overlaps(truth, found), find_clusters(truth)
    assert assign_to_clusters(overlaps, clusters).tolist() == [clusters[2]]


@settings(deadline=None)
@given(pair=PAIRS)
def test_matches_of_touching_objects_are_those_of_the_whole_image(pair: tuple[np.ndarray, np.ndarray]) -> None:
    overlaps, clusters = find_overlaps(*pair), find_clusters(pair[0])
    matched = (overlaps.ious > 0.5) & (clusters[overlaps.true] != LONE)
    assert restrict_to_clusters(overlaps, clusters).count_matches(0.5) == np.count_nonzero(matched)


def test_a_merged_and_a_split_object_do_not_make_up_for_each_other() -> None:
    truth = np.array([[1, 2, 2, 0, 3, 3, 4, 4]])
    found = np.array([[1, 1, 1, 0, 3, 5, 4, 4]])
    error = count_in_clusters(find_overlaps(truth, found), find_clusters(truth))
    assert error == CountError(clusters=2, objects=4, missing=1, surplus=1)
    assert error.per_object == 0.5


def test_a_cluster_that_was_not_found_misses_all_its_objects() -> None:
    error = count_in_clusters(find_overlaps(TRUTH, np.zeros_like(TRUTH)), find_clusters(TRUTH))
    assert error == CountError(clusters=1, objects=2, missing=2, surplus=0)


def test_count_errors_of_images_add_up() -> None:
    total = CountError(1, 2, 1, 0) + CountError(2, 6, 0, 3)
    assert total == CountError(3, 8, 1, 3)
    assert total.per_object == 0.5


def test_without_clusters_nothing_is_wrong() -> None:
    lone = np.array([[1, 0, 2]])
    overlaps = find_overlaps(lone, lone)
    assert count_in_clusters(overlaps, find_clusters(lone)).per_object == 0.0
    assert restrict_to_clusters(overlaps, find_clusters(lone)).average_precision(0.5) == 1.0


@pytest.mark.parametrize(
    ("truth", "found", "merges", "splits"),
    [
        ([1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3], 0, 0),
        ([1, 1, 2, 2, 3, 3], [1, 1, 1, 1, 1, 1], 2, 0),
        ([1, 1, 1, 1, 1, 1], [1, 1, 2, 2, 3, 3], 0, 2),
        ([1, 1, 2, 2, 0, 0], [1, 1, 1, 2, 2, 2], 0, 0),  # half of an object is not most of it
        ([1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 2], 0, 0),
    ],
)
def test_merges_and_splits_are_counted(truth: list[int], found: list[int], merges: int, splits: int) -> None:
    overlaps = find_overlaps(np.array([truth]), np.array([found]))
    assert (count_merges(overlaps), count_splits(overlaps)) == (merges, splits)


@settings(deadline=None, max_examples=60)
@given(truth=IMAGES, gap=st.integers(0, 3), size=st.integers(1, 20))
def test_clusters_are_the_same_however_many_rows_are_looked_at_together(truth: np.ndarray, gap: int, size: int) -> None:
    whole = find_clusters(truth, gap=gap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(touching, "STRIP", size)
        assert find_clusters(truth, gap=gap).tolist() == whole.tolist()


def test_looking_for_clusters_takes_little_memory() -> None:
    truth = np.arange(1500, dtype=np.int32).repeat(2)[:, None] // 4 + np.arange(3000, dtype=np.int32) // 16 * 400
    tracemalloc.start()
    find_clusters(truth)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 1.5 * truth.nbytes
