"""Segmentations as clusterings, against counted pairs, scikit-learn and scikit-image."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.metrics import adapted_rand_error
from sklearn import metrics as peer

from shared.imaging.metrics.clustering import (
    NOTHING,
    PERFECT,
    information_score,
    pixel_error,
    rand_score,
    score_thinned,
    thin_borders,
)
from shared.imaging.metrics.instances import label_components

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=6)
LABELS = st.integers(0, 3)
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(*[arrays.arrays(np.int64, shape, elements=LABELS)] * 2))
MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=12))


def _restrict(truth: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of the true foreground, each pixel of a found border with a label of its own."""
    alone = np.where(found == 0, 1000 + np.arange(found.size).reshape(found.shape), found)
    return truth[truth > 0], alone[truth > 0]


@settings(deadline=None)
@given(pair=PAIRS)
def test_the_rand_score_is_what_counting_pairs_gives(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assume(all(labels.any() for labels in pair))
    truth, found = _restrict(*pair)
    same_truth, same_found = (labels[:, None] == labels for labels in (truth, found))
    both = np.count_nonzero(same_truth & same_found)
    score = rand_score(*pair)
    assert score.split == pytest.approx(both / same_truth.sum())
    assert score.merge == pytest.approx(both / same_found.sum())
    assert score.score == pytest.approx(2 * score.split * score.merge / (score.split + score.merge))


@settings(deadline=None, max_examples=50)
@given(pair=PAIRS)
def test_the_information_score_is_scikit_learns_normalised_mutual_information(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    assume(all(labels.any() for labels in pair))
    truth, found = _restrict(*pair)
    score = information_score(*pair)
    assert score.split == pytest.approx(peer.completeness_score(truth, found), abs=1e-9)
    assert score.merge == pytest.approx(peer.homogeneity_score(truth, found), abs=1e-9)
    assert score.score == pytest.approx(peer.v_measure_score(truth, found), abs=1e-9)


def test_with_many_pixels_the_rand_score_is_scikit_images() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 5, (16, 16)).repeat(16, axis=0).repeat(16, axis=1)
    found = np.where(generator.random(truth.shape) < 0.8, truth + 1, generator.integers(1, 7, truth.shape))
    error, precision, recall = adapted_rand_error(truth, found, ignore_labels=(0,))
    score = rand_score(truth, found)
    assert (score.score, *sorted((score.split, score.merge))) == pytest.approx(
        (1 - error, *sorted((precision, recall))), abs=1e-4
    )


@given(pair=PAIRS, shift=st.integers(1, 10**12), order=st.permutations(range(4)))
def test_labels_are_only_names(pair: tuple[np.ndarray, np.ndarray], shift: int, order: list[int]) -> None:
    truth, found = pair
    renamed = np.where(found > 0, np.array(order)[found] + shift, 0)
    for score in (rand_score, information_score):
        one, other = score(truth, found), score(truth, renamed)
        assert (one.split, one.merge, one.score) == pytest.approx((other.split, other.merge, other.score))
        assert all(0 <= part <= 1 for part in (one.split, one.merge, one.score))


def test_a_split_lowers_one_part_and_a_merger_the_other() -> None:
    whole, halves = np.ones((4, 8), dtype=int), np.repeat([1, 2], 4) * np.ones((4, 1), dtype=int)
    split, merged = rand_score(whole, halves), rand_score(halves, whole)
    assert (split.split, split.merge) == (0.5, 1.0)
    assert (merged.split, merged.merge) == (1.0, 0.5)
    assert information_score(whole, halves).split == 0
    assert information_score(whole, halves).merge == 1
    assert information_score(halves, whole).merge == 0
    assert information_score(whole, whole) == PERFECT


def test_what_lies_outside_the_true_foreground_does_not_count() -> None:
    truth = np.array([[1, 1, 0, 0]])
    assert rand_score(truth, np.array([[5, 5, 5, 5]])) == PERFECT
    assert rand_score(truth, np.array([[5, 5, 0, 9]])) == PERFECT


def test_without_segments_there_is_a_score() -> None:
    some, none = np.array([[1, 0]]), np.array([[0, 0]])
    for score in (rand_score, information_score):
        assert score(none, none) == PERFECT
        assert score(none, some) == NOTHING
        assert score(some, none) == NOTHING


@settings(deadline=None)
@given(mask=MASKS)
def test_thin_borders_are_one_pixel_wide_and_separate_what_was_separate(mask: np.ndarray) -> None:
    segments = label_components(mask)
    thinned = thin_borders(segments)
    np.testing.assert_array_equal(thinned[mask], segments[mask])
    for one, other in [(thinned[1:], thinned[:-1]), (thinned[:, 1:], thinned[:, :-1])]:
        assert not ((one != other) & (one > 0) & (other > 0)).any()
    framed = np.pad(thinned, 1)
    around = np.stack([framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]])
    for row, column in np.argwhere(thinned == 0) if segments.any() else []:
        neighbours = set(around[:, row, column].tolist()) - {0}
        assert len(neighbours) > 1  # given to one, it would touch the other


def test_how_thick_a_border_is_drawn_does_not_matter() -> None:
    truth, thick = np.ones((20, 21), dtype=bool), np.ones((20, 21), dtype=bool)
    truth[:, 10], thick[:, 7:14] = False, False
    assert score_thinned(truth, thick) == (PERFECT, PERFECT)
    np.testing.assert_array_equal(thin_borders(label_components(thick)) > 0, truth)
    assert score_thinned(truth, np.ones_like(truth))[0].merge < 0.6


def test_segments_grow_as_fast_in_every_direction() -> None:
    segments = np.zeros((13, 13), dtype=int)
    segments[0, 0], segments[:, 12] = 1, 2
    rows, columns = np.nonzero(thin_borders(segments) == 0)
    parabola = (144 - rows**2) / 24  # as far from the point as from the line
    assert rows.tolist() == list(range(13))
    assert np.abs(columns - parabola).max() < 1


def test_labels_wider_than_32_bits_survive_thinning_and_the_rest_is_filled() -> None:
    segments = np.array([[2**40, 0, 0, 0, -7]])
    assert thin_borders(segments).tolist() == [[2**40, 2**40, 0, -7, -7]]
    assert thin_borders(np.array([[0, 9, 0, 0]])).tolist() == [[9, 9, 9, 9]]
    assert thin_borders(np.zeros((3, 3), dtype=int)).sum() == 0


@given(mask=MASKS, data=st.data())
def test_the_pixel_error_is_the_share_that_differs(mask: np.ndarray, data: st.DataObject) -> None:
    other = data.draw(arrays.arrays(bool, mask.shape))
    assert pixel_error(mask, other) == pixel_error(other, mask) == pytest.approx((mask ^ other).mean())
    assert pixel_error(mask, ~mask) == 1


def test_segments_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="not of one shape"):
        rand_score(np.ones((2, 2), dtype=int), np.ones((2, 3), dtype=int))
