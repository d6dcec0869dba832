"""What becomes of a small image once it is predicted: the same files as of a large one, made in memory."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.worker.context import Context
from services.worker.predictor import ServedModel
from services.worker.stages.assemble import mask_artifacts, store_overlay
from services.worker.stages.exports import Shelf
from services.worker.stages.facts import ImageFacts, probability_map
from services.worker.stages.image_objects import ImageObjects, OnePart, write_objects
from services.worker.stages.mask_parts import FILE
from services.worker.stages.object_parts import Part
from services.worker.stages.object_summary import describe_objects
from services.worker.stages.plan import probability_artifact
from services.worker.stages.quality import judge_image
from services.worker.stages.rules import rules_of
from services.worker.stages.score import Truth, score_small
from services.worker.stages.subject import Subject
from services.worker.writers.mask import encode_tiles, write_mask
from shared.domain.blocks import ImageOutcome, NewArtifact
from shared.execution import Work
from shared.imaging.flags import Confidence
from shared.imaging.masks import close_mask, find_classes
from shared.imaging.metrics.accumulating import AnswerBlock
from shared.imaging.objects.blocks import label_block
from shared.imaging.objects.pieces import measure_pieces
from shared.imaging.quality import Features
from shared.imaging.tiling import Box, Pixels
from shared.schemas.jobs import SegmentParameters
from shared.storage import image_key
from shared.tables import JobImage
from shared.tables.base import Json

Labels = NDArray[np.uint32]


@dataclass(frozen=True)
class SmallImage:
    """An image of one tile."""

    image: JobImage
    facts: ImageFacts
    pixels: Pixels  # (H, W, 3), as it was read
    samples: NDArray[Any] | None  # (H, W, channels), as the file holds them, if its objects are wanted
    channels: tuple[str, ...]
    features: Features
    truth: Truth | None  # if it is to be scored
    tile: Pixels  # (core + 2 halo, core + 2 halo, tile channels), as the model wants it


def write_small(context: Context, work: Work, model: ServedModel, small: SmallImage, answer: Pixels) -> ImageOutcome:
    """Store what was asked for of an image whose tile was answered with `answer` (planes, core, core)."""
    return _Written(context, work, model, small, answer).end()


class _Written:
    """What was asked for of one image."""

    def __init__(self, context: Context, work: Work, model: ServedModel, small: SmallImage, answer: Pixels) -> None:
        self._context, self._work, self._model, self._small = context, work, model, small
        image, facts = small.image, small.facts
        self._parameters = SegmentParameters.of(work.claim.job.spec, image.entry)
        self._subject = Subject(image, facts, model, self._parameters, small.channels)
        self._planes = answer[:, : facts.height, : facts.width]
        height, width = facts.size
        self._box = Box(0, 0, height, width)
        predicted = close_mask(
            find_classes(self._planes, threshold=self._parameters.threshold), self._parameters.closing
        )
        self._classes = facts.read_own(lambda box: predicted[box.slices()], self._box)

    def end(self) -> ImageOutcome:
        """The image's end."""
        small, image, facts = self._small, self._small.image, self._small.facts
        confidence = Confidence()
        confidence.add(self._planes)
        found: Json = {
            "foreground_fraction": round(np.count_nonzero(self._classes) / self._classes.size, 6),
            "seams": None,
            "skipped_tiles": 0,
            "quality": judge_image(small.features, confidence, self._model.contract, name=self._subject.name),
        }
        self._work.check()  # whoever lost the block must not write over its successor's result
        artifacts, findings = [*self._store_map(), *self._store_mask()], list[Json]()
        if small.samples is not None:
            objects, labels = self._store_objects(small.samples)
            found["objects"] = describe_objects(objects.summary, facts)
            artifacts += objects.artifacts
            if self._parameters.wants_overlay:
                artifacts += store_overlay(self._context, self._subject, small.pixels, objects)
            findings, panels = self._score(labels)
            artifacts += panels
        return ImageOutcome(
            image.id, facts=facts.model_dump(mode="json"), result=found, findings=findings, artifacts=artifacts
        )

    def _store_map(self) -> list[NewArtifact]:
        if "ome_zarr" not in self._parameters.outputs:
            return []
        image, facts = self._small.image, self._small.facts
        probability = probability_map(self._model.contract, facts)
        place = Box(0, 0, facts.height, facts.width)
        content = {**probability.describe(), **probability.encode_levels(place, self._planes)}
        return [probability_artifact(self._context, image, key, part) for key, part in sorted(content.items())]

    def _store_mask(self) -> list[NewArtifact]:
        if "mask" not in self._parameters.outputs:
            return []
        image, file = self._small.image, BytesIO()
        height, width = self._small.facts.size
        write_mask(file, encode_tiles(self._classes), height=height, width=width, mpp=self._small.facts.mask_mpp)
        return mask_artifacts(
            image, self._context.storage.put(image_key(image.job_id, image.id, FILE), file.getvalue())
        )

    def _store_objects(self, samples: NDArray[Any]) -> tuple[ImageObjects, Labels]:
        """What was made of the objects, and their labels (H, W)."""
        small, rules = self._small, rules_of(self._parameters, self._small.facts)
        height, width = small.facts.size
        planes = self._read_planes(self._box)
        found = label_block(lambda box: planes, self._box, height=height, width=width, rules=rules)  # noqa: ARG005
        pieces = measure_pieces(found.labels, found.classes, found.planes, samples, self._box)
        labels = list[Labels]()
        objects = write_objects(
            self._subject,
            OnePart(self._box, Part(found.labels, found.seams, pieces)),
            Shelf(self._context, small.image, None),
            overview=(height, width),
            check=self._work.check,
            watch=lambda _, each: labels.append(each),
        )
        return objects, labels[0]

    def _score(self, labels: Labels) -> tuple[list[Json], list[NewArtifact]]:
        small = self._small
        if small.truth is None:
            return [], []
        answer = AnswerBlock(self._classes, labels, self._read_planes(self._box))
        classes = len(self._model.contract.classes)
        return score_small(self._context, small.image, small.truth, pixels=small.pixels, answer=answer, classes=classes)

    def _read_planes(self, box: Box) -> Pixels:
        """The probabilities (planes, h, w) in the image's own pixels."""
        return self._small.facts.read_own_planes(lambda part: self._planes[:, *part.slices()], box)
