"""Comparing a large image with its mask, region by region, while its objects are written down."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.worker.context import Context
from services.worker.stages.mask_parts import read_mask
from services.worker.stages.rules import rules_of
from services.worker.stages.score import Scoring, read_truth
from services.worker.stages.shards import Shards
from services.worker.stages.subject import Subject
from shared.domain.blocks import NewArtifact
from shared.execution import Work
from shared.imaging.metrics.accumulating import AnswerBlock
from shared.imaging.objects.whole import label_whole
from shared.imaging.tiling import Box
from shared.slides import Slide
from shared.tables.base import Json

Labels = NDArray[np.uint32]


class LargeScoring:
    """Does nothing for an image of a job that is no evaluation."""

    def __init__(self, context: Context, work: Work, subject: Subject, shards: Shards, slide: Slide) -> None:
        self._context, self._work, self._subject, self._shards, self._slide = context, work, subject, shards, slide
        self._left = set(subject.facts.own_blocks())
        self._scoring: Scoring | None = None
        if subject.parameters.is_scored:
            size = {"height": subject.height, "width": subject.width}
            truth = read_truth(context, subject.image, **size)
            self._scoring = Scoring(subject.image, truth, **size, classes=len(subject.legend.classes))

    def watch(self, box: Box, labels: Labels) -> None:
        """The labels (h, w) of a region."""
        self._left.discard(box)
        if self._scoring is not None:
            self._scoring.add(box, self._answer(box, labels))

    def end(self) -> tuple[Sequence[Json], list[NewArtifact]]:
        """The image's findings, and its picture."""
        if self._scoring is None:
            return [], []
        for box in list(self._left):  # nobody looked there: there is nothing
            self.watch(box, np.zeros((box.height, box.width), dtype=np.uint32))
        return self._scoring.end(self._context, self._slide.read, self._read_answer)

    def _read_answer(self, box: Box) -> AnswerBlock:
        """Of a small box anywhere, for a picture: its objects as they would be if there were nothing around it."""
        planes = self._subject.facts.read_own_planes(self._shards.read, box)
        return self._answer(box, label_whole(planes, rules_of(self._subject.parameters, self._subject.facts)))

    def _answer(self, box: Box, labels: Labels) -> AnswerBlock:
        facts = self._subject.facts
        classes = read_mask(self._shards, facts, self._subject.parameters, box)
        return AnswerBlock(classes, labels, facts.read_own_planes(self._shards.read, box))
