"""The objects of an image: numbered, handed to whoever writes them down or looks at them, summed up."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.worker.lookahead import map_ahead
from services.worker.stages.exports import Exports, Shelf
from services.worker.stages.object_parts import Part
from services.worker.stages.rules import rules_of
from services.worker.stages.subject import Subject
from services.worker.writers.overlay import ShownLabels
from shared.domain.blocks import NewArtifact
from shared.imaging.objects.assembling import Assembly
from shared.imaging.objects.pieces import Pieces
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.objects.seams import Seams
from shared.imaging.objects.summary import ObjectSummary
from shared.imaging.objects.table import ObjectTable
from shared.imaging.tiling import Box, Pixels

Labels = NDArray[np.uint32]
Watch = Callable[[Box, Labels], None]  # sees the labels of each region in which was looked
AHEAD = 2  # regions that are fetched while those before are written


class Source(Protocol):
    """Where the objects of each region come from."""

    @property
    def boxes(self) -> Sequence[Box]:
        """The regions in which was looked."""

    def labels(self, box: Box) -> Labels:
        """Numbers of the region's pieces (h, w)."""

    def seams(self, box: Box) -> Seams:
        """What joins them to others."""

    def pieces(self, box: Box) -> Pieces:
        """What was measured of them."""


@dataclass(frozen=True)
class OnePart:
    """The objects of an image that is one region."""

    box: Box
    part: Part

    @property
    def boxes(self) -> Sequence[Box]:
        return [self.box]

    def labels(self, box: Box) -> Labels:  # noqa: ARG002
        return self.part.labels

    def seams(self, box: Box) -> Seams:  # noqa: ARG002
        return self.part.seams

    def pieces(self, box: Box) -> Pieces:  # noqa: ARG002
        return self.part.pieces


@dataclass
class Shown:
    """What a picture of the image shows of its objects."""

    labels: ShownLabels
    _classes: list[Pixels] = field(default_factory=lambda: [np.zeros(1, dtype=np.uint8)])

    def add(self, box: Box, labels: Labels, classes: Pixels) -> None:
        """The labels (h, w) of a region, and the classes (n,) of the objects that belong to it."""
        self.labels.add(box, labels)
        self._classes.append(classes)

    @property
    def classes(self) -> Pixels:
        """(objects + 1,) the class of each, by its label."""
        return np.concatenate(self._classes)


@dataclass(frozen=True)
class ImageObjects:
    """What became of them."""

    artifacts: Sequence[NewArtifact]
    summary: ObjectSummary
    shown: Shown


def write_objects(
    subject: Subject,
    source: Source,
    shelf: Shelf,
    *,
    overview: tuple[int, int],
    check: Callable[[], None],
    watch: Watch,
) -> ImageObjects:
    """Everything that was asked for of the image's objects. `overview`: height and width of the picture of it, px."""
    categories = subject.categories
    shown, summary = Shown(ShownLabels(full=subject.facts.size, overview=overview)), ObjectSummary()
    with ExitStack() as stack:
        assembly = _assemble(source, rules_of(subject.parameters, subject.facts), stack)
        exports = stack.enter_context(Exports(subject, subject.parameters.outputs, shelf, objects=len(assembly)))
        for box, labels, table in _walk(assembly, subject, source):
            check()
            exports.add(box, labels, table)
            summary.add(table)
            shown.add(box, labels, np.array([categories[name] for name in table.columns["class"].tolist()], np.uint8))
            watch(box, labels)
    check()  # whoever lost the block must not write over its successor's result
    return ImageObjects(exports.store(), summary, shown)


def _assemble(source: Source, rules: ObjectRules, stack: ExitStack) -> Assembly:
    """Of more than one region what comes next is fetched while something is done with what came before."""
    boxes = source.boxes
    if len(boxes) == 1:
        return Assembly(boxes, [source.seams(boxes[0])], lambda _: source.pieces(boxes[0]), rules)
    pool = stack.enter_context(ThreadPoolExecutor(1 + AHEAD, thread_name_prefix="pieces"))
    coming = dict[int, Future[Pieces]]()

    def load(number: int) -> Pieces:
        for each in range(number, min(number + 1 + AHEAD, len(boxes))):
            if each not in coming:
                coming[each] = pool.submit(source.pieces, boxes[each])
        return coming.pop(number).result()

    with closing(map_ahead(pool, source.seams, boxes, ahead=AHEAD)) as seams:
        return Assembly(boxes, seams, load, rules)


def _walk(assembly: Assembly, subject: Subject, source: Source) -> Iterator[tuple[Box, Labels, ObjectTable]]:
    """Region by region the labels in the image, and the objects that belong to it."""

    def look(number: int) -> tuple[Box, Labels, ObjectTable]:
        box = source.boxes[number]
        table, numbers = assembly.describe(number, subject.legend)
        return box, numbers[source.labels(box)], table

    if len(source.boxes) == 1:
        yield look(0)
        return
    with (
        ThreadPoolExecutor(1, thread_name_prefix="objects") as pool,
        closing(map_ahead(pool, look, range(len(source.boxes)), ahead=AHEAD)) as found,
    ):
        yield from found
