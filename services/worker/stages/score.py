"""What was found in an image of an evaluate job, compared with its mask: scores, the baseline's scores, a picture."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from services.worker.context import Context
from services.worker.writers.panels import WorstWindow, draw_panel
from shared.annotations import LARGEST, number_objects, read_values
from shared.annotations.kinds import to_classes
from shared.domain.blocks import NewArtifact
from shared.domain.fetching import fetch
from shared.errors import Rejected
from shared.imaging.classical import RULES, Baseline, apply_baseline, plan_baseline
from shared.imaging.metrics.accumulating import AnswerBlock, Evidence, ImageScores, TruthBlock
from shared.imaging.metrics.instances import Places
from shared.imaging.metrics.touching import find_clusters
from shared.imaging.objects.foreground import find_region
from shared.imaging.objects.whole import label_whole
from shared.imaging.sampling import read_sample
from shared.imaging.tiling import Box, Pixels, plan_blocks
from shared.storage import image_key
from shared.tables import JobImage
from shared.tables.base import Json

PANEL = "panel.png"
WHOLE = 4096 * 4096  # px; the baseline tells objects apart in images up to this size, and pixels in any
SIDE = 2048  # px of the blocks in which the baseline goes over larger ones

ReadPixels = Callable[[Box], Pixels]  # (h, w, 3), of the image itself
ReadAnswer = Callable[[Box], AnswerBlock]


class Scored(BaseModel):
    """An image's scores by one model, as blocks hand them on to the report."""

    model_config = ConfigDict(frozen=True)

    name: str  # what the user calls it
    model: int  # 0, or 1 of the model that it is compared with
    split: str | None
    group: str | None
    evidence: Json  # an Evidence
    method: str | None = None  # how the baseline found its foreground; none where it was not asked
    baseline: dict[str, float | None] | None = None  # its scores
    panel: str  # key of the picture


@dataclass(frozen=True)
class StoredMask:
    """A file of masks, as an image's entry names it."""

    name: str
    bucket: str | None
    key: str
    sha256: str | None
    bytes: int
    etag: str | None

    @classmethod
    def of(cls, entry: Json) -> "StoredMask":
        """From the part of an entry."""
        return cls(**{name: entry[name] for name in ("name", "bucket", "key", "sha256", "bytes", "etag")})


@dataclass(frozen=True, eq=False)
class Truth:
    """The mask of an image of height × width px, held whole; read before the image is predicted, it fails early."""

    labels: np.ndarray[Any, np.dtype[np.int32]] | None
    classes: Pixels | None
    tells_classes: bool = False  # classes are of several kinds, and not the foreground's 1

    def cut(self, box: Box) -> TruthBlock:
        """Of a box inside the image."""
        labels = None if self.labels is None else self.labels[box.slices()]
        return TruthBlock(labels, None if self.classes is None else self.classes[box.slices()])

    @cached_property
    def clusters(self) -> Places | None:
        """Which objects touch."""
        return None if self.labels is None else find_clusters(self.labels)


def read_truth(context: Context, image: JobImage, *, height: int, width: int) -> Truth:
    """The mask of an image of that size, px.

    Raises:
        Rejected: it is damaged, too large to be held whole, or of another size; the text says what to do.
        Missing: its bytes are gone.
    """
    check_size(image, height=height, width=width)
    values = _read(context, image.entry["mask"], height, width)
    types = image.entry.get("types")
    if image.entry["mask_kind"] == "instances":
        classes = None if types is None else to_classes(_read(context, types, height, width), types["name"])
        return Truth(number_objects(values), classes, tells_classes=classes is not None)
    if image.entry["mask_kind"] == "classes":
        return Truth(None, to_classes(values, image.entry["mask"]["name"]), tells_classes=True)
    return Truth(None, (values > np.zeros((), values.dtype)).astype(np.uint8))


def check_size(image: JobImage, *, height: int, width: int) -> None:
    """Raise Rejected if an image of that size, px, is too large for its mask to be held whole."""
    if height * width > LARGEST:
        raise Rejected(
            f"{image.entry['name']}: {width} × {height} px are more than a mask is held for at once ({LARGEST:,} px); "
            "cut the image by a preprocess job with the step `tile`, and evaluate on its version"
        )


def check_truth(context: Context, image: JobImage, *, height: int, width: int) -> None:
    """Read the masks of an image that is to be scored, and let them go: what `read_truth` would refuse in the end, this
    does before a large image is predicted. It takes seconds, predicting takes minutes.

    Raises:
        Rejected, Missing: as `read_truth`.
    """
    if "mask" not in image.entry:
        return
    check_size(image, height=height, width=width)
    for entry in (image.entry["mask"], image.entry.get("types")):
        if entry is not None:
            _read(context, entry, height, width)


def _read(context: Context, entry: Json, height: int, width: int) -> np.ndarray[Any, Any]:
    mask = StoredMask.of(entry)
    with NamedTemporaryFile(dir=context.settings.cache_dir, suffix=Path(mask.name).suffix) as file:
        path = Path(file.name)
        fetch(context.storage, mask, path, name=mask.name)
        values = read_values(path, mask.name)
    if values.shape != (height, width):
        raise Rejected(
            f"{mask.name}: the mask has {values.shape[1]} × {values.shape[0]} px, but its image {width} × {height} px; "
            "make them the same size"
        )
    return values


class Scoring:
    """The scores of one image by one model, from blocks that cover it. `classes`: of the model, with the background."""

    def __init__(self, image: JobImage, truth: Truth, *, height: int, width: int, classes: int) -> None:
        self._image, self._truth, self._size = image, truth, (height, width)
        # Where either tells but foreground, so is it scored, whatever classes the other tells.
        self._scores = ImageScores(classes=classes if truth.tells_classes and classes > 2 else 2)
        self._window = WorstWindow(height, width)

    def add(self, box: Box, answer: AnswerBlock) -> None:
        """Count a block; every pixel of the image once, in any order."""
        truth = self._truth.cut(box)
        self._scores.add(truth, answer)
        self._window.add(box, truth.foreground != (answer.classes != 0))

    def end(
        self, context: Context, read_pixels: ReadPixels, read_answer: ReadAnswer
    ) -> tuple[list[Json], list[NewArtifact]]:
        """The image's findings, and its picture as it is stored.

        `read_pixels`, `read_answer`: what the image and the answer are in a box, asked for where most is wrong; the
        first model's also all over the image, for the baseline.
        """
        image, entry, box = self._image, self._image.entry, self._window.find()
        method, baseline = None, None
        if entry["model"] == 0:
            method, baseline = score_baseline(read_pixels, self._truth, *self._size)
        panel = draw_panel(read_pixels(box), self._truth.cut(box), read_answer(box))
        stored = context.storage.put(image_key(image.job_id, image.id, PANEL), panel)
        scored = Scored(
            name=entry["name"],
            model=entry["model"],
            split=entry["split"],
            group=entry["group"],
            evidence=self._scores.finish(self._truth.clusters).as_json(),
            method=method,
            baseline=None if baseline is None else baseline.as_json()["row"],
            panel=stored.key,
        )
        return [scored.model_dump(mode="json")], [NewArtifact("panel", f"panels/{image.name}.png", "image/png", stored)]


def score_small(
    context: Context, image: JobImage, truth: Truth, *, pixels: Pixels, answer: AnswerBlock, classes: int
) -> tuple[list[Json], list[NewArtifact]]:
    """As `Scoring` does it, of an image (h, w, 3) that is one block."""
    height, width = pixels.shape[:2]
    scoring = Scoring(image, truth, height=height, width=width, classes=classes)
    scoring.add(Box(0, 0, height, width), answer)
    return scoring.end(context, lambda box: pixels[box.slices()], lambda box: cut_answer(answer, box))


def cut_answer(answer: AnswerBlock, box: Box) -> AnswerBlock:
    """The part of an answer that covers the whole image."""
    return AnswerBlock(
        answer.classes[box.slices()],
        None if answer.labels is None else answer.labels[box.slices()],
        None if answer.planes is None else answer.planes[:, *box.slices()],
    )


def score_baseline(read: ReadPixels, truth: Truth, height: int, width: int) -> tuple[str, Evidence]:
    """How the classical baseline found the foreground of an image, and its scores; of large images, of pixels alone."""
    plan = plan_baseline(read_sample(read, height, width))
    scores = ImageScores()
    if height * width <= WHOLE:
        box = Box(0, 0, height, width)
        planes = apply_baseline(read(box), plan)
        scores.add(truth.cut(box), AnswerBlock(find_region(planes, RULES).classes, label_whole(planes, RULES)))
        return plan.method, scores.finish(truth.clusters)
    for box in plan_blocks(height, width, side=SIDE):
        scores.add(truth.cut(box), AnswerBlock(_cut(read, box, plan)))
    return plan.method, scores.finish()


def _cut(read: ReadPixels, box: Box, plan: Baseline) -> Pixels:
    classes: Pixels = (apply_baseline(read(box), plan)[0] > 0).astype(np.uint8)
    return classes
