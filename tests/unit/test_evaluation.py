"""What a trained network is worth: threshold, closing and scores, worked out by hand."""

import itertools
import math
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from services.trainer.data import Sample
from services.trainer.devices import make_fabric
from services.trainer.evaluation import Evaluation, choose_threshold, evaluate
from services.trainer.networks import Network
from services.trainer.networks.geometry import Geometry, crop
from shared.errors import Cancelled
from shared.imaging.metrics.pixels import sweep_thresholds
from shared.imaging.tiling import Pixels
from shared.schemas.training import TrainIn

PIXEL_SCORES = {"accuracy", "precision", "recall", "f1", "jaccard", "weighted_iou"}
OBJECT_SCORES = {"ap50", "ap50_95", "pq", "aji"}


class Mirror(Network):
    """Knows the answer: the probability of its plane is the image's value, by 255; of three planes, its channels."""

    def __init__(self, *, classes: int = 1) -> None:
        super().__init__(Geometry(1), channels=classes, classes=classes)

    def segment(self, enriched: Tensor, spare: int = 0) -> list[Tensor]:
        asked = crop(enriched, spare)
        return [torch.logit(asked) if self.classes == 1 else 10 * asked]


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return make_fabric("fp32")


def make_order(**changes: Any) -> TrainIn:
    fields: dict[str, Any] = {"kind": "train", "dataset_version": UUID(int=0), "model": "nuclei"}
    return TrainIn.model_validate(fields | changes)


def make_sample(values: Any, truth: Any, name: str = "a.png", labels: Any = None) -> Sample:
    """Values 0 … 255 (H, W) that the mirror will answer with, and what is there."""
    image = np.array(values, np.uint8)[..., None]
    numbers = None if labels is None else np.array(labels, np.int32)
    return Sample(name, image, np.array(truth, np.uint8), labels=numbers)


def judge(samples: list[Sample], fabric: Fabric, **changes: Any) -> Evaluation:
    return evaluate(Mirror(), samples, order=make_order(**changes), fabric=fabric, check=lambda: None)


# Where the mean over both images is best, the pooled IoU is not:
#   level       FEW                 MANY               mean    pooled
#   … 60        1 of 4              16 of 16           0.625   17 of 20
#   61 … 150    1 of 4              8 of 16            0.375    9 of 20
#   151 … 200   1 of 1              8 of 16            0.75     9 of 17
FEW = make_sample([[200, 150], [150, 150]], [[1, 0], [0, 0]], "few.png")
MANY = make_sample([[200] * 4, [200] * 4, [60] * 4, [60] * 4], [[1] * 4] * 4, "many.png")


def test_the_threshold_is_the_one_with_the_best_mean_iou_that_lies_nearest_to_a_half(fabric: Fabric) -> None:
    pooled = sweep_thresholds((sample.image[..., 0], sample.mask > 0) for sample in (FEW, MANY))
    assert pooled.best_pooled == 60 / 255
    evaluation = judge([FEW, MANY], fabric)
    assert evaluation.threshold == pytest.approx(151 / 255)
    assert [(row["name"], row["jaccard"]) for row in evaluation.rows] == [("few.png", 1.0), ("many.png", 0.5)]
    assert evaluation.rows[1]["recall"] == 0.5


def test_an_ordered_threshold_is_kept_though_it_is_worse(fabric: Fabric) -> None:
    evaluation = judge([FEW, MANY], fabric, threshold=0.2)
    assert evaluation.threshold == 0.2
    assert [row["jaccard"] for row in evaluation.rows] == [0.25, 1.0]
    assert [row["recall"] for row in judge([FEW, MANY], fabric, threshold=0.9).rows] == [0.0, 0.0]


@pytest.mark.parametrize(("levels", "truth"), [([[0, 0]], [[1, 1]]), ([[255, 254]], [[1, 0]])])
def test_a_chosen_threshold_is_one_that_a_contract_takes(levels: Any, truth: Any) -> None:
    sample = make_sample(levels, truth)
    assert 0 < choose_threshold([np.array([levels], np.uint8)], [sample]) < 1


def test_what_is_ordered_closed_is_scored_closed(fabric: Fabric) -> None:
    values = np.full((9, 9), 250)
    values[4, 4] = 3  # a hole that is none in truth
    sample = make_sample(values, np.ones((9, 9)))
    open_, closed = (judge([sample], fabric, threshold=0.5, closing=radius).rows[0] for radius in (0, 1))
    assert open_["recall"] == pytest.approx(80 / 81)
    assert closed["recall"] == 1.0


def test_objects_are_scored_where_the_mask_numbers_them(fabric: Fabric) -> None:
    labels = np.zeros((8, 8), int)
    labels[1:4, 1:4], labels[5:7, 5:8] = 7, 3
    found = np.where(labels == 7, 200, 0)  # the other one is missed
    numbered = make_sample(found, labels > 0, "numbered.png", labels)
    plain = make_sample(found, labels > 0, "plain.png")
    one, other = judge([numbered, plain], fabric, threshold=0.5, objects={"min_area": 1}).rows
    assert set(one) == {"name"} | PIXEL_SCORES | OBJECT_SCORES
    assert set(other) == {"name"} | PIXEL_SCORES
    assert one["ap50"] == 0.5  # 1 hit, nothing false, 1 missed: 1 / (1 + 0 + 1)
    assert one["pq"] == pytest.approx(1 / 1.5)  # IoU of 1 by 1 hit and half a miss
    assert one["recall"] == other["recall"] == 9 / 15


@pytest.mark.parametrize(("method", "is_right"), [("watershed", True), ("components", False)])
def test_objects_are_told_apart_as_the_model_will_recommend(method: str, is_right: bool, fabric: Fabric) -> None:
    rows, columns = np.ogrid[:30, :50]
    discs = [np.hypot(rows - 15, columns - middle) < 11 for middle in (14, 34)]
    labels = np.select([columns < 24, columns >= 24], [1, 2]) * (discs[0] | discs[1])
    sample = make_sample(200 * (labels > 0), labels > 0, "touching.png", labels)
    (row,) = judge([sample], fabric, threshold=0.5, objects={"method": method}).rows
    assert (row["ap50"] == 1) is is_right


def judge_classes(truth: Any, fabric: Fabric, **changes: Any) -> Evaluation:
    """Of an answer with background, class 1 and class 2 at two pixels each."""
    found: NDArray[np.intp] = np.array([[0, 1, 2], [2, 0, 1]])
    image = np.eye(3, dtype=np.uint8)[found] * np.uint8(200)
    order = make_order(network={"classes": 3}, masks={"kind": "classes"}, **changes)
    sample = Sample("a.png", image, np.array(truth, np.uint8))
    return evaluate(Mirror(classes=3), [sample], order=order, fabric=fabric, check=lambda: None)


def test_classes_need_no_threshold_and_all_but_the_background_are_foreground(fabric: Fabric) -> None:
    evaluation = judge_classes([[0, 2, 2], [0, 0, 1]], fabric)
    assert evaluation.threshold == 0.5
    assert (evaluation.rows[0]["jaccard"], evaluation.rows[0]["recall"]) == (3 / 4, 1.0)


def test_each_class_is_scored_for_itself(fabric: Fabric) -> None:
    (row,) = judge_classes([[0, 2, 2], [0, 0, 1]], fabric).rows
    assert (row["jaccard_class_1"], row["jaccard_class_2"]) == (1 / 2, 1 / 3)  # 1 of 2, and 1 of 3 pixels
    assert "jaccard_class_0" not in row


def test_a_class_that_is_neither_there_nor_found_does_not_count(fabric: Fabric) -> None:
    order = make_order(network={"classes": 3}, masks={"kind": "classes"})
    samples = [
        Sample(name, np.eye(3, dtype=np.uint8)[numbers] * np.uint8(200), numbers.astype(np.uint8))
        for name, numbers in (("one.png", np.array([[0, 1]])), ("two.png", np.array([[1, 2]])))
    ]
    summary = evaluate(Mirror(classes=3), samples, order=order, fabric=fabric, check=lambda: None).summarise()
    assert (summary["jaccard_class_1"]["images"], summary["jaccard_class_2"]["images"]) == (2, 1)
    assert summary["jaccard_class_2"]["mean"] == 1.0


@pytest.mark.parametrize("foreground", ["nonzero", "zero"])
def test_grey_micrographs_are_scored_by_their_membranes_too(fabric: Fabric, foreground: str) -> None:
    """The same picture and the same mask, whether cells or membranes are looked for."""
    cells = np.ones((12, 21), bool)
    cells[:, 10] = False
    found = cells.copy()
    found[5, 10] = True  # a hole in the membrane: two cells become one
    wanted, answer = (cells, found) if foreground == "nonzero" else (~cells, ~found)
    sample = make_sample(np.where(answer, 250, 3), wanted)
    (row,) = judge([sample], fabric, threshold=0.5, network={"channels": 1}, masks={"foreground": foreground}).rows
    assert row["pixel_error"] == pytest.approx(1 / cells.size)
    assert (row["vrand_split"], row["vrand_merge"]) == pytest.approx((1.0, 0.5), abs=0.02)


def test_a_summary_gives_means_with_intervals_over_the_images_that_have_the_score(fabric: Fabric) -> None:
    labels = [[1, 1], [0, 0]]
    numbered = make_sample([[200, 200], [0, 0]], labels, "numbered.png", labels)
    summary = judge([FEW, MANY, numbered], fabric, objects={"min_area": 1}).summarise()
    assert summary["jaccard"]["mean"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert 0.5 <= summary["jaccard"]["low"] <= summary["jaccard"]["mean"] <= summary["jaccard"]["high"] <= 1
    assert (summary["jaccard"]["images"], summary["ap50"]["images"], summary["ap50"]["mean"]) == (3, 1, 1.0)
    assert "name" not in summary
    assert all(math.isfinite(value) for score in summary.values() for value in score.values())


@pytest.mark.parametrize("calls", [0, 3])
def test_what_check_raises_ends_the_evaluation(fabric: Fabric, calls: int) -> None:
    """Both while images are predicted and while they are scored."""
    heard = itertools.count()

    def cancel_later() -> None:
        if next(heard) == calls:
            raise Cancelled

    with pytest.raises(Cancelled):
        evaluate(Mirror(), [FEW, MANY], order=make_order(), fabric=fabric, check=cancel_later)
    assert next(heard) == calls + 1


def test_scores_do_not_depend_on_the_images_size_or_its_place_on_the_grid(fabric: Fabric) -> None:
    generator = np.random.default_rng(0)
    values: Pixels = generator.integers(0, 256, (13, 7)).astype(np.uint8)
    sample = make_sample(values, values >= 128)
    assert judge([sample], fabric, threshold=0.5).rows[0]["jaccard"] == 1.0
