"""What a trained network is worth on its validation images: the figures of its card."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from services.trainer.data import Sample
from services.trainer.networks import Network
from services.trainer.validation import predict_whole
from shared.imaging.masks import close_mask, find_classes
from shared.imaging.metrics.evaluation import score_image
from shared.imaging.metrics.pixels import sweep_thresholds
from shared.imaging.metrics.summary import summarise
from shared.imaging.tiling import Pixels
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


def evaluate(
    network: Network, samples: Sequence[Sample], *, order: TrainIn, fabric: Fabric, check: Callable[[], None]
) -> Evaluation:
    """Predict every sample whole, choose the threshold if the order leaves it open, and score.

    Foreground is every class but the background. For instance masks the objects found are compared, too.
    """
    answers = [predict_whole(network, sample.image, fabric=fabric, check=check) for sample in samples]
    threshold = order.threshold or choose_threshold(answers, samples)
    rows: list[dict[str, str | float | None]] = []
    for sample, planes in zip(samples, answers, strict=True):
        check()
        found = close_mask(find_classes(planes, threshold=threshold), order.closing) > 0
        rows.append({"name": sample.name, **_score(sample, found)})
    return Evaluation(threshold, rows)


def choose_threshold(answers: Sequence[Pixels], samples: Sequence[Sample]) -> float:
    """The threshold with the best mean IoU over the images; 0.5 for softmax networks, whose classes need none."""
    if not answers or answers[0].shape[0] > 1:
        return 0.5
    pairs = ((planes[0], sample.mask > 0) for planes, sample in zip(answers, samples, strict=True))
    return float(np.clip(sweep_thresholds(pairs).best_mean, 1 / LEVELS, 1 - 1 / LEVELS))


def _score(sample: Sample, found: NDArray[np.bool_]) -> dict[str, float]:
    if sample.labels is None:
        return score_image(sample.mask, found, truth_is_instances=False)
    return score_image(sample.labels, found, truth_is_instances=True)
