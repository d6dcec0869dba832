"""What a trained network is worth on its validation images: the figures of its card."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from lightning_fabric import Fabric

from services.trainer.data import Sample
from services.trainer.networks import Network
from services.trainer.validation import predict_whole
from shared.imaging.masks import close_mask, find_classes
from shared.imaging.metrics.evaluation import score_borders, score_image
from shared.imaging.metrics.pixels import class_ious, count_classes, sweep_thresholds
from shared.imaging.metrics.summary import summarise
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.objects.whole import label_whole
from shared.imaging.tiling import Pixels
from shared.schemas.objects import ObjectParameters
from shared.schemas.training import TrainIn

LEVELS = 255


@dataclass(frozen=True)
class Evaluation:
    """Scores of the validation images, with the post-processing that the model version recommends."""

    threshold: float  # 0 … 1
    rows: list[dict[str, str | float | None]]  # per image: its name and its scores

    def summarise(self) -> dict[str, Any]:
        """Means over the images with their 95 % bootstrap intervals."""
        return {name: asdict(mean) for name, mean in summarise(self.rows).items()}


@dataclass(frozen=True, eq=False)
class Found:
    """What the network says of an image."""

    classes: Pixels  # (H, W), 0 = background
    answer: Pixels  # (1, H, W), the foreground's probability; of several classes, which


def evaluate(
    network: Network, samples: Sequence[Sample], *, order: TrainIn, fabric: Fabric, check: Callable[[], None]
) -> Evaluation:
    """Predict every sample whole, choose the threshold if the order leaves it open, and score.

    Foreground is every class but the background. For instance masks the objects found are compared, too.
    """
    answers = [_answer(network, sample, fabric=fabric, check=check) for sample in samples]
    threshold = order.threshold or (choose_threshold(answers, samples) if network.classes <= 2 else 0.5)
    rows: list[dict[str, str | float | None]] = []
    for sample, answer in zip(samples, answers, strict=True):
        check()
        classes = answer[0] if network.classes > 2 else find_classes(answer, threshold=threshold)
        found = Found(close_mask(classes, order.closing), answer)
        rows.append({"name": sample.name, **_score(sample, found, order, threshold=threshold)})
    return Evaluation(threshold, rows)


def find_rules(order: TrainIn, *, threshold: float) -> ObjectRules:
    """By which the objects of instance masks are told apart: those that the model will recommend."""
    parameters = ObjectParameters.fill(order.objects, classes=["background", "object"], closing=order.closing)
    return ObjectRules(threshold=threshold, **parameters.model_dump())


def _answer(network: Network, sample: Sample, *, fabric: Fabric, check: Callable[[], None]) -> Pixels:
    """One plane (1, H, W), so that all answers fit in memory: the foreground's probability; of several classes, which.

    Of a softmax over background and foreground the latter's plane says it all.
    """
    planes = predict_whole(network, sample.image, fabric=fabric, check=check)
    return planes[-1:] if network.classes <= 2 else find_classes(planes, threshold=0.5)[None]


def choose_threshold(answers: Sequence[Pixels], samples: Sequence[Sample]) -> float:
    """The threshold with the best mean IoU over the images, from probabilities (1, H, W)."""
    pairs = ((planes[0], sample.mask > 0) for planes, sample in zip(answers, samples, strict=True))
    return float(np.clip(sweep_thresholds(pairs).best_mean, 0.5 / LEVELS, 1 - 0.5 / LEVELS))


def _score(sample: Sample, answer: Found, order: TrainIn, *, threshold: float) -> dict[str, float]:
    """Of the foreground; and of objects, of each class, or of membranes, by what the masks tell."""
    classes, found = answer.classes, answer.classes > 0
    if sample.labels is not None:
        objects = label_whole(answer.answer, find_rules(order, threshold=threshold))
        return score_image(sample.labels, found, truth_is_instances=True, found_instances=objects)
    scores = score_image(sample.mask, found, truth_is_instances=False)
    if order.masks.kind == "classes":
        ious = class_ious(count_classes(sample.mask, classes, classes=order.network.classes))
        return scores | {f"jaccard_class_{number}": float(iou) for number, iou in enumerate(ious) if number > 0}
    if order.network.channels == 1:  # an electron micrograph as likely as not; foreground "zero" are its membranes
        inside = order.masks.foreground == "nonzero"
        return scores | score_borders((sample.mask > 0) == inside, found == inside)
    return scores
