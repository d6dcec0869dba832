"""What is made of an image of a dataset version: files under their hash, a thumbnail, the image's outcome."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from services.worker.context import Context
from services.worker.reports.pictures import draw_labelled_thumbnail, fit_labels
from services.worker.stages.findings import Finding, MadeFile
from shared.annotations import suffix_of, write_classes, write_labels
from shared.annotations.values import Labels
from shared.domain import objects
from shared.domain.blocks import ImageOutcome, NewArtifact
from shared.domain.objects import Content
from shared.examination.labels import examine_labels
from shared.examination.thumbnails import encode_thumbnail
from shared.imaging.tiling import Pixels
from shared.layouts.documents import clean
from shared.schemas.datasets import DERIVED
from shared.storage import image_key, object_key
from shared.tables import JobImage
from shared.tables.datasets import FileRole

WAITING = 16_000_000  # bytes that are made before they are written
SHOWN = 20  # problems of an image that its job shows; the report has all


class Keeper:
    """Keeps what a block makes of one image of its job. `derived`: the files supplement those of the version."""

    def __init__(self, context: Context, image: JobImage, *, derived: bool = True) -> None:
        self._context, self._image, self._derived = context, image, derived
        self._thumbnails: list[NewArtifact] = []
        self._waiting: dict[str, bytes] = {}  # by hash: to be written together

    def keep_image(self, finding: Finding, body: bytes) -> None:
        """Store the image's file."""
        finding.file = self._keep(finding, f"images/{finding.name}{suffix_of(body)}", body, FileRole.IMAGE)

    def keep_truth(self, finding: Finding, labels: Labels | None, classes: Pixels | None) -> None:
        """Store the masks of an image: its objects, its classes, or both."""
        if labels is not None:
            finding.mask = self._keep(finding, f"masks/{finding.name}.tif", write_labels(labels), FileRole.MASK)
        if classes is not None:
            folder = "masks" if labels is None else "types"
            name = self._keep(finding, f"{folder}/{finding.name}.tif", write_classes(classes), FileRole.MASK)
            finding.mask, finding.types = finding.mask or name, None if labels is None else name

    def examine_truth(self, finding: Finding, labels: Labels | None, classes: Pixels | None) -> None:
        """Note the statistics of the masks of an image."""
        finding.labels = examine_labels(labels, classes).model_dump(mode="json")

    def keep_thumbnail(self, finding: Finding, overview: Pixels, labels: Labels | None, classes: Pixels | None) -> None:
        """Store a small picture of the image (h, w, 3), with the outlines of what its mask shows."""
        marked = labels if labels is not None else classes
        if marked is None:
            picture = encode_thumbnail(overview)
        else:
            picture = draw_labelled_thumbnail(overview, fit_labels(marked, *overview.shape[:2]))
        name = hashlib.sha256(finding.name.encode()).hexdigest()[:16]
        stored = self._context.storage.put(self._place(f"{name}.jpg"), picture)
        finding.thumbnail = stored.key
        self._thumbnails.append(NewArtifact("thumbnail", f"thumbnails/{finding.name}.jpg", "image/jpeg", stored))

    def end(self, findings: Sequence[Finding]) -> ImageOutcome:
        """The image's outcome: an error if nothing that was made of it can be used."""
        self._store()
        problems = [clean(problem.model_dump()) for finding in findings for problem in finding.problems]
        errors = [problem for finding in findings for problem in finding.errors]
        bad = bool(errors) and all(finding.errors for finding in findings)
        return ImageOutcome(
            self._image.id,
            result={"images": len(findings), "problems": problems[:SHOWN]},
            findings=[finding.as_json() for finding in findings],
            artifacts=self._thumbnails,
            error={"type": "input", "detail": clean(errors[0].text)} if bad else None,
        )

    @contextmanager
    def lend(self, body: bytes) -> Iterator[Path]:
        """A file on disk with these bytes, for a while."""
        with NamedTemporaryFile(dir=self._context.settings.cache_dir, suffix=suffix_of(body)) as file:
            file.write(body)
            file.flush()
            yield Path(file.name)

    def _keep(self, finding: Finding, name: str, body: bytes, role: FileRole) -> str:
        sha256 = hashlib.sha256(body).hexdigest()
        name, role = (f"{DERIVED}{name}", FileRole.DERIVED) if self._derived else (name, role)
        finding.made.append(MadeFile(name=name, sha256=sha256, bytes=len(body), role=role))
        self._waiting[sha256] = body
        if sum(map(len, self._waiting.values())) > WAITING:
            self._store()
        return name

    def _store(self) -> None:
        """Write what waits. It is announced before, or it might be collected."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        with self._context.sessions() as session:
            contents = [Content(sha256, len(body)) for sha256, body in waiting.items()]
            objects.announce(session, self._image.workspace_id, contents)
        for sha256, body in waiting.items():
            self._context.storage.put(object_key(self._image.workspace_id, sha256), body)

    def _place(self, file: str) -> str:
        return image_key(self._image.job_id, self._image.id, file)
