"""What the report keeps of every finding: so little that those of a hundred thousand images fit into memory."""

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, overload

from services.worker.stages.findings import Finding
from shared.domain.datasets import VersionFile
from shared.domain.objects import Verified
from shared.examination.images import ImageExamination
from shared.examination.labels import LabelStatistics
from shared.examination.leakage import Membership
from shared.examination.portraits import Portrait
from shared.examination.summary import ImageRecord
from shared.schemas.manifests import Problem
from shared.tables.base import Json
from shared.tables.datasets import ManifestState

LIGHTLY = 1  # compression: the rows of a version are written and read once


@dataclass(slots=True)
class Examined:
    """An image of the version to be. Its row, a few kB of statistics, is kept packed."""

    name: str
    split: str | None
    membership: Membership
    height: int | None  # px
    width: int | None  # px
    mask_kind: str | None
    has_mask_files: bool  # whether a mask was sent, read or not
    notes: tuple[str, ...]  # about its mask
    variant_of: str | None  # what all variants of a tile share; None of what has no variants
    thumbnail: str | None  # key
    portrait: Portrait | None
    problems: list[Problem]
    _packed: bytes = field(repr=False)
    related: str | None = None  # an image that a split must not part it from

    @classmethod
    def of(cls, finding: Finding) -> Self:
        """Without what only the row needs."""
        source = finding.source
        place = json.dumps([source.get("image"), source.get("box")]) if source.get("variant") is not None else None
        examination = ImageExamination.model_validate(finding.image) if finding.image else None
        return cls(
            name=finding.name,
            split=finding.split,
            membership=Membership(finding.split, finding.group, finding.source_file),
            height=finding.image.get("height"),
            width=finding.image.get("width"),
            mask_kind=finding.mask_kind,
            has_mask_files=bool(source.get("masks") or finding.mask),
            notes=tuple(source.get("notes", ())),
            variant_of=place,
            thumbnail=finding.thumbnail,
            portrait=Portrait.of(examination) if examination is not None and not finding.errors else None,
            problems=list(finding.problems),
            _packed=zlib.compress(json.dumps(finding.as_row()).encode(), LIGHTLY),
        )

    @property
    def accepted(self) -> bool:
        """Whether nothing keeps it out of the dataset."""
        return all(problem.severity != "error" for problem in self.problems)

    def as_row(self) -> Json:
        """The columns of its DatasetImage."""
        row: Json = json.loads(zlib.decompress(self._packed))
        row["problems"] = [problem.model_dump() for problem in self.problems]
        if self.related is not None:
            row["source"]["related"] = [self.related]
        row["state"] = ManifestState.ACCEPTED if self.accepted else ManifestState.REJECTED
        return row

    def as_record(self) -> ImageRecord:
        """As the summary takes it."""
        statistics = self.as_row()["statistics"]
        image, labels = statistics["image"], statistics["labels"]
        return ImageRecord(
            name=self.name,
            accepted=self.accepted,
            split=self.split,
            problems=self.problems,
            examination=ImageExamination.model_validate({**image, "fingerprint": ""}) if image else None,
            labels=LabelStatistics.model_validate(labels) if labels else None,
        )


class Rows(Sequence[Json]):
    """The rows of a manifest, each unpacked when it is asked for."""

    def __init__(self, images: Sequence[Examined]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, place: int) -> Json: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Json]: ...

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return Rows(self._images[place])
        return self._images[place].as_row()


@dataclass
class Gathering:
    """The images of a version to be, and what all findings together say."""

    images: list[Examined] = field(default_factory=list)
    files: list[VersionFile] = field(default_factory=list)  # that were made
    read: dict[str, Verified] = field(default_factory=dict)  # by file name
    class_names: list[str] = field(default_factory=list)  # from 0, the background, of the image that has most

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Self:
        """Findings may come one by one; none is kept."""
        found = cls()
        for finding in findings:
            found.images.append(Examined.of(finding))
            found.files += [made.as_new() for made in finding.made]
            found.read |= {name: Verified(read.sha256, read.etag) for name, read in finding.read.items()}
            found.class_names = max(found.class_names, finding.classes, key=len)
        return found

    @property
    def accepted(self) -> list[Examined]:
        """In their order."""
        return [image for image in self.images if image.accepted]

    def warn_of_missing_masks(self) -> None:
        """Where some images have masks, the others may have lost theirs."""
        masked = sum(image.has_mask_files for image in self.images)
        for image in self.images if masked else ():
            if not image.has_mask_files and image.accepted:
                image.problems.append(_missing(image.name, masked))

    def walk_lines(self) -> Iterator[bytes]:
        """The manifest as JSON, an image a line."""
        yield b"["
        for place, image in enumerate(self.images):
            yield b",\n" if place else b"\n"
            yield json.dumps(image.as_row(), sort_keys=True).encode()
        yield b"\n]\n"


def _missing(name: str, masked: int) -> Problem:
    text = (
        f"{name}: the image has no mask, though {masked:,} of the version have one; name its mask as theirs are, or "
        "leave it: it is segmented, and nothing is learnt from it"
    )
    return Problem(code="mask_missing", severity="warning", text=text)
