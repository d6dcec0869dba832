"""One image, all its scores."""

import numpy as np
import pytest

from shared.imaging.metrics import score_borders, score_image
from shared.imaging.metrics.instances import label_components

PIXEL_SCORES = ["accuracy", "precision", "recall", "f1", "jaccard", "weighted_iou"]
OBJECT_SCORES = ["ap50", "ap50_95", "pq", "aji"]


def _draw_truth() -> np.ndarray:
    """Two objects of 4 × 4 px that touch, with labels far apart."""
    truth = np.zeros((10, 12), dtype=np.uint16)
    truth[2:6, 1:5], truth[2:6, 5:9] = 40_000, 3
    return truth


def test_a_perfect_answer_has_perfect_scores() -> None:
    truth = _draw_truth()
    scores = score_image(truth, truth > 0, truth_is_instances=True, found_instances=truth)
    assert list(scores) == PIXEL_SCORES + OBJECT_SCORES
    assert set(scores.values()) == {1.0}


def test_objects_that_touch_are_one_component_unless_told_apart() -> None:
    truth = _draw_truth()
    scores = score_image(truth, truth > 0, truth_is_instances=True)
    assert {scores[name] for name in PIXEL_SCORES} == {1.0}
    assert (scores["ap50"], scores["pq"]) == (0.0, 0.0)
    assert scores["aji"] == 0.5


def test_a_truth_of_pixels_has_no_scores_of_objects() -> None:
    truth = _draw_truth() > 0
    assert list(score_image(truth, truth, truth_is_instances=False)) == PIXEL_SCORES


def test_a_mask_as_truth_is_one_object() -> None:
    truth = _draw_truth() > 0
    assert score_image(truth, truth, truth_is_instances=True)["ap50_95"] == 1.0


def test_probabilities_are_foreground_from_the_threshold_on() -> None:
    truth = np.array([[1, 1, 0, 0]])
    probabilities = np.array([[200, 120, 120, 0]], dtype=np.uint8)
    high = score_image(truth, probabilities, threshold=0.5, truth_is_instances=False)
    low = score_image(truth, probabilities, threshold=120 / 255, truth_is_instances=False)
    assert (high["precision"], high["recall"], high["jaccard"]) == (1.0, 0.5, 0.5)
    assert (low["precision"], low["recall"], low["jaccard"]) == (2 / 3, 1.0, 2 / 3)
    mask = score_image(truth, probabilities >= 120, threshold=0.99, truth_is_instances=False)
    assert mask == low


@pytest.mark.parametrize(("true", "found", "expected"), [(0, 0, 1.0), (0, 1, 0.0), (1, 0, 0.0), (1, 1, 1.0)])
def test_empty_images_have_scores(true: int, found: int, expected: float) -> None:
    masks = [np.pad(np.full((2, 2), value, dtype=bool), 1) for value in (true, found)]
    scores = score_image(label_components(masks[0]), masks[1], truth_is_instances=True)
    overlaps = [name for name in scores if name not in ("accuracy", "weighted_iou")]
    assert {scores[name] for name in overlaps} == {expected}
    assert all(0 <= score <= 1 for score in scores.values())


def test_borders_have_the_scores_of_the_electron_microscopists() -> None:
    truth = np.ones((12, 21), dtype=bool)
    truth[:, 10] = False
    names = ["pixel_error", "warping_error"]
    names += [f"{kind}{part}" for kind in ("vrand", "vinfo") for part in ("", "_split", "_merge")]
    thick = truth.copy()
    thick[:, 9:12] = False
    scores = score_borders(truth, thick)
    assert list(scores) == names
    assert scores["pixel_error"] == pytest.approx(2 / 21)
    assert [scores[name] for name in names[1:]] == [0.0] + [1.0] * 6
    merged = score_borders(truth, np.ones_like(truth))
    assert (merged["vrand_split"], merged["vrand_merge"], merged["vinfo_merge"]) == (1.0, 0.5, 0.0)
    nothing = np.zeros_like(truth)
    assert list(score_borders(nothing, nothing).values()) == [0.0] * 2 + [1.0] * 6


def test_what_does_not_fit_is_refused() -> None:
    truth = _draw_truth()
    with pytest.raises(ValueError, match="not of one shape"):
        score_image(truth, truth[:5] > 0, truth_is_instances=False)
    with pytest.raises(ValueError, match="not of one shape"):
        score_image(truth, truth > 0, truth_is_instances=True, found_instances=truth[:5])
    with pytest.raises(ValueError, match="probabilities are uint8, not float64"):
        score_image(truth, truth / 40_000, truth_is_instances=False)  # type: ignore[arg-type]  # that is the mistake
