"""Scores of pixels, against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as peer

from shared.imaging.masks import find_classes
from shared.imaging.metrics.pixels import Confusion, class_ious, count_classes, sweep_thresholds, weighted_iou

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=7)
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(arrays.arrays(bool, shape), arrays.arrays(bool, shape)))
CLASS_PAIRS = SHAPES.flatmap(lambda shape: st.tuples(*[arrays.arrays(np.uint8, shape, elements=st.integers(0, 3))] * 2))
QUESTIONS = SHAPES.flatmap(lambda shape: st.tuples(arrays.arrays(np.uint8, shape), arrays.arrays(bool, shape)))
Pair = tuple[np.ndarray, np.ndarray]
NAMES = ["accuracy", "precision", "recall", "f1", "jaccard", "weighted_iou"]


@settings(deadline=None, max_examples=50)
@given(pair=PAIRS)
def test_every_score_is_scikit_learns(pair: Pair) -> None:
    truth, found = (mask.ravel() for mask in pair)
    nothing = {"zero_division": 0.0 if (truth | found).any() else 1.0}
    expected = {
        "accuracy": peer.accuracy_score(truth, found),
        "precision": peer.precision_score(truth, found, **nothing),
        "recall": peer.recall_score(truth, found, **nothing),
        "f1": peer.f1_score(truth, found, **nothing),
        "jaccard": peer.jaccard_score(truth, found, **nothing),
        "weighted_iou": peer.jaccard_score(truth, found, labels=[False, True], average="weighted", zero_division=0.0),
    }
    scores = Confusion.of(*pair).scores()
    assert list(scores) == NAMES
    assert scores == pytest.approx(expected)


@given(pair=PAIRS)
def test_scores_stay_between_zero_and_one_and_exchanging_the_masks_exchanges_precision_and_recall(
    pair: Pair,
) -> None:
    truth, found = pair
    one, other = Confusion.of(truth, found), Confusion.of(found, truth)
    assert all(0 <= score <= 1 for score in one.scores().values())
    assert (one.precision, one.recall) == (other.recall, other.precision)
    assert (one.accuracy, one.f1, one.jaccard) == (other.accuracy, other.f1, other.jaccard)


@given(first=PAIRS, second=PAIRS)
def test_the_sum_of_two_images_is_the_image_of_both(first: Pair, second: Pair) -> None:
    joined = [np.concatenate([a.ravel(), b.ravel()]) for a, b in zip(first, second, strict=True)]
    assert sum([Confusion.of(*first), Confusion.of(*second)], Confusion()) == Confusion.of(*joined)


@pytest.mark.parametrize(
    ("truth", "found", "foreground", "accuracy"), [(0, 0, 1.0, 1.0), (0, 1, 0.0, 0.75), (1, 0, 0.0, 0.75)]
)
def test_empty_masks_agree_and_one_empty_mask_overlaps_nothing(
    truth: int, found: int, foreground: float, accuracy: float
) -> None:
    masks = [np.array([[value, 0], [0, 0]], dtype=bool) for value in (truth, found)]
    scores = Confusion.of(*masks).scores()
    assert [scores[name] for name in ("precision", "recall", "f1", "jaccard")] == [foreground] * 4
    assert scores["accuracy"] == accuracy


def test_of_no_pixels_all_is_right() -> None:
    nothing = np.zeros((0, 5), dtype=bool)
    assert set(Confusion.of(nothing, nothing).scores().values()) == {1.0}
    assert weighted_iou(count_classes(nothing.astype(int), nothing.astype(int), classes=3)) == 1.0


@settings(deadline=None, max_examples=50)
@given(pair=CLASS_PAIRS)
def test_several_classes_are_counted_as_scikit_learn_does(pair: Pair) -> None:
    truth, found = (classes.ravel() for classes in pair)
    matrix = count_classes(*pair, classes=4)
    np.testing.assert_array_equal(matrix, peer.confusion_matrix(truth, found, labels=range(4)))
    ious = peer.jaccard_score(truth, found, labels=range(4), average=None, zero_division=0.0)
    unseen = ~np.isin(range(4), np.union1d(truth, found))
    np.testing.assert_allclose(class_ious(matrix), np.where(unseen, np.nan, ious))
    expected = peer.jaccard_score(truth, found, labels=range(4), average="weighted", zero_division=0.0)
    assert weighted_iou(matrix) == pytest.approx(expected)


@given(pair=PAIRS)
def test_two_classes_are_foreground_and_background(pair: Pair) -> None:
    matrix = count_classes(*(mask.astype(np.int64) for mask in pair), classes=2)
    assert weighted_iou(matrix) == pytest.approx(Confusion.of(*pair).weighted_iou)


@settings(deadline=None, max_examples=40)
@given(questions=st.lists(QUESTIONS, min_size=1, max_size=3))
def test_a_sweep_is_what_trying_every_threshold_gives(questions: list[tuple[np.ndarray, np.ndarray]]) -> None:
    sweep = sweep_thresholds(iter(questions))
    assert sweep.images == len(questions)
    for level in (0, 1, 127, 128, 254, 255):
        confusions = [
            Confusion.of(truth, find_classes(probabilities[None], threshold=level / 255) == 1)
            for probabilities, truth in questions
        ]
        assert sweep.pooled_ious[level] == sum(confusions, Confusion()).jaccard
        assert sweep.mean_ious[level] == pytest.approx(np.mean([confusion.jaccard for confusion in confusions]))
    assert sweep.pooled_ious[round(sweep.best_pooled * 255)] == sweep.pooled_ious.max()
    assert sweep.mean_ious[round(sweep.best_mean * 255)] == sweep.mean_ious.max()


def test_pooled_and_mean_thresholds_differ_where_images_differ_in_size() -> None:
    large = np.repeat(np.array([[60, 60, 90, 0]], dtype=np.uint8), 100, axis=0)
    small = np.array([[60, 90, 90, 0]], dtype=np.uint8)
    sweep = sweep_thresholds([(large, large >= 60), (small, small >= 90), (small, small >= 90)])
    assert (sweep.best_pooled, sweep.best_mean) == (60 / 255, 90 / 255)


def test_of_equal_thresholds_the_one_nearest_to_a_half_is_best() -> None:
    probabilities = np.array([[10, 200]], dtype=np.uint8)
    assert sweep_thresholds([(probabilities, probabilities == 200)]).best_pooled == 127 / 255
    assert sweep_thresholds([(probabilities, probabilities >= 0)]).best_pooled == 10 / 255


def test_what_does_not_fit_is_refused() -> None:
    mask = np.zeros((2, 2), dtype=bool)
    with pytest.raises(ValueError, match="not of one shape"):
        Confusion.of(mask, mask[:1])
    with pytest.raises(ValueError, match="masks are bool"):
        Confusion.of(mask, mask.astype(np.uint8))
    with pytest.raises(ValueError, match="not among 0 … 1"):
        count_classes(np.array([2]), np.array([0]), classes=2)
    with pytest.raises(ValueError, match="probabilities uint8"):
        sweep_thresholds([(np.zeros((2, 2)), mask)])  # type: ignore[list-item]  # that is the mistake
    with pytest.raises(ValueError, match="no image"):
        sweep_thresholds([])
