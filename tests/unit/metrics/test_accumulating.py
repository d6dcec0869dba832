"""Scores of an image from its blocks: those of the whole image, however it is cut."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.imaging.masks import find_classes
from shared.imaging.metrics import score_image, sweep_thresholds
from shared.imaging.metrics.accumulating import AnswerBlock, Evidence, ImageScores, TruthBlock
from shared.imaging.metrics.contingency import Contingency
from shared.imaging.metrics.instances import find_overlaps, label_components
from shared.imaging.metrics.pixels import count_classes, sweep_levels
from shared.imaging.metrics.touching import find_clusters
from shared.imaging.tiling import Box, Pixels, plan_blocks

SIDES = st.integers(1, 24)


def draw(seed: int, height: int, width: int, *, planes: int = 1) -> tuple[NDArray[np.int32], Pixels]:
    """True objects, some of them touching, and probabilities that are somewhat like them."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 4, (-(-height // 3), -(-width // 3)))
    labels = coarse.repeat(3, axis=0).repeat(3, axis=1)[:height, :width].astype(np.int32)
    labels *= generator.integers(1, 9) * 1000
    noise = generator.integers(0, 256, (planes, height, width))
    return labels, np.where(generator.random((planes, height, width)) < 0.7, (labels > 0) * 200, noise).astype(np.uint8)


def score_in_blocks(scores: ImageScores, truth: TruthBlock, answer: AnswerBlock, boxes: list[Box]) -> Evidence:
    def cut(array: Any, box: Box) -> Any:
        return None if array is None else array[..., *box.slices()]

    for box in boxes:
        part = TruthBlock(cut(truth.labels, box), cut(truth.classes, box))
        scores.add(part, AnswerBlock(cut(answer.classes, box), cut(answer.labels, box), cut(answer.planes, box)))
    return scores.finish()


@given(height=SIDES, width=SIDES, side=st.integers(1, 30), seed=st.integers(0, 9999))
def test_the_scores_of_all_blocks_are_those_of_the_whole_image(height, width, side, seed):
    labels, planes = draw(seed, height, width)
    classes = find_classes(planes, threshold=0.5)
    found = label_components(classes > 0)
    boxes = list(plan_blocks(height, width, side=side))
    np.random.default_rng(seed).shuffle(boxes)
    evidence = score_in_blocks(ImageScores(), TruthBlock(labels), AnswerBlock(classes, found, planes), boxes)
    whole = score_image(labels, planes[0], truth_is_instances=True, found_instances=found)
    assert {name: evidence.row[name] for name in whole} == whole


@given(height=SIDES, width=SIDES, side=st.integers(1, 30), seed=st.integers(0, 9999))
def test_the_overlaps_of_all_blocks_are_those_of_the_whole_image(height, width, side, seed):
    true, _ = draw(seed, height, width)
    found, _ = draw(seed + 1, height, width)
    contingency = Contingency()
    for box in plan_blocks(height, width, side=side):
        contingency.add(true[box.slices()], found[box.slices()])
    counted, whole = contingency.find_overlaps(), find_overlaps(true, found)
    for name in ("truth_areas", "found_areas", "true", "found", "intersections"):
        np.testing.assert_array_equal(getattr(counted, name), getattr(whole, name))


def test_labels_of_32_bits_are_told_apart():
    contingency = Contingency()
    contingency.add(np.array([[1, 2**32 - 1]], np.uint32), np.array([[2**32 - 1, 2**32 - 1]], np.uint32))
    assert contingency.find_overlaps().intersections.tolist() == [1, 1]


@given(side=st.integers(1, 12), seed=st.integers(0, 9999))
def test_the_curve_of_thresholds_is_that_of_the_whole_image(side, seed):
    labels, planes = draw(seed, 12, 17)
    boxes = list(plan_blocks(12, 17, side=side))
    answer = AnswerBlock(find_classes(planes, threshold=0.5), None, planes)
    levels = score_in_blocks(ImageScores(), TruthBlock(labels), answer, boxes).levels
    assert levels is not None
    whole = sweep_thresholds([(planes[0], labels > 0)])
    np.testing.assert_array_equal(sweep_levels([levels]).pooled_ious, whole.pooled_ious)


def test_classes_are_counted_against_each_other():
    truth, found = (np.random.default_rng(seed).integers(0, 3, (9, 14)).astype(np.uint8) for seed in (1, 2))
    boxes = list(plan_blocks(9, 14, side=4))
    evidence = score_in_blocks(ImageScores(classes=3), TruthBlock(classes=truth), AnswerBlock(found), boxes)
    assert evidence.matrix is not None
    assert evidence.matrix.tolist() == count_classes(truth, found, classes=3).tolist()
    assert {"jaccard_class_1", "jaccard_class_2"} <= set(evidence.row)


def test_a_truth_without_objects_has_no_scores_of_objects():
    classes = np.ones((3, 3), np.uint8)
    scores = ImageScores()
    scores.add(TruthBlock(classes=classes), AnswerBlock(classes, np.ones((3, 3), np.uint32)))
    assert "aji" not in scores.finish().row


def test_too_many_objects_are_counted_as_such():
    truth, found = np.array([[1, 1, 0, 0]]), np.array([[1, 2, 0, 3]])
    scores = ImageScores()
    scores.add(TruthBlock(truth), AnswerBlock((found > 0).astype(np.uint8), found))
    row = scores.finish().row
    assert (row["objects_true"], row["objects_found"], row["count_error"]) == (1, 3, 2)


def test_objects_that_touch_have_scores_of_their_own():
    truth = np.array([[1, 1, 2, 2, 0, 3, 3]])
    found = np.array([[1, 1, 1, 1, 0, 2, 2]])
    scores = ImageScores()
    scores.add(TruthBlock(truth), AnswerBlock((found > 0).astype(np.uint8), found))
    row = scores.finish(find_clusters(truth)).row
    assert (row["touching_objects"], row["touching_ap50"], row["touching_count_error"]) == (2, 0, 0.5)


def test_where_nothing_touches_there_is_nothing_to_score():
    truth = np.array([[1, 1, 0, 2]])
    scores = ImageScores()
    scores.add(TruthBlock(truth), AnswerBlock((truth > 0).astype(np.uint8), truth))
    assert np.isnan(scores.finish(find_clusters(truth)).row["touching_ap50"])


def test_blocks_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="not of one shape"):
        ImageScores().add(TruthBlock(np.zeros((2, 3), np.int32)), AnswerBlock(np.zeros((3, 2), np.uint8)))


def test_evidence_survives_the_database():
    labels, planes = draw(3, 10, 10, planes=3)
    scores = ImageScores(classes=4)
    scores.add(
        TruthBlock(labels, (labels // labels.max()).astype(np.uint8)), AnswerBlock(planes.argmax(0), None, planes)
    )
    evidence = scores.finish()
    again = Evidence.from_json(json.loads(json.dumps(evidence.as_json(), allow_nan=False)))
    np.testing.assert_equal(again.row, evidence.row)
    np.testing.assert_equal(again.levels, evidence.levels)
    np.testing.assert_equal(again.matrix, evidence.matrix)


def test_what_a_model_has_no_class_for_is_one_row_of_its_own():
    scores = ImageScores(classes=3)
    scores.add(
        TruthBlock(classes=np.array([[0, 1, 7, 255]], np.uint8)), AnswerBlock(np.array([[0, 1, 2, 0]], np.uint8))
    )
    evidence = scores.finish()
    assert evidence.matrix is not None
    assert evidence.matrix.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0]]
    assert "jaccard_class_3" not in evidence.row
