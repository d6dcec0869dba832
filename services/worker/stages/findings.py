"""What ingest and preprocess find out about an image, as blocks hand it on to the report."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared.domain.datasets import VersionFile
from shared.layouts.documents import clean
from shared.schemas.manifests import Problem
from shared.tables.base import Json
from shared.tables.datasets import FileRole, ManifestState

BACKGROUND = "background"  # class 0


def list_classes(names: Mapping[int, str]) -> list[str]:
    """Names of the classes 0, 1, …, of which those above 0 that are known are given; none if none is."""
    return [BACKGROUND, *(names.get(number, f"class {number}") for number in range(1, max(names) + 1))] if names else []


class MadeFile(BaseModel):
    """A file that was made for the version; it lies under its hash."""

    model_config = ConfigDict(frozen=True)

    name: str
    sha256: str
    bytes: int
    role: FileRole

    def as_new(self) -> VersionFile:
        """As the manifest takes it."""
        return VersionFile(self.name, self.sha256, self.bytes, self.role)


class FileRead(BaseModel):
    """What the bytes of a file of the version turned out to be."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    etag: str | None = None


class Finding(BaseModel):
    """An image of the version to be: which files it is made of, what is in it, what is wrong with it."""

    name: str
    file: str | None = None
    parts: list[str] = Field(default_factory=list)
    mask: str | None = None
    mask_kind: str | None = None
    types: str | None = None
    classes: list[str] = Field(default_factory=list)
    split: str | None = None
    group: str | None = None
    mpp: float | None = None
    source: Json = Field(default_factory=dict)  # what it was made from, and how
    problems: list[Problem] = Field(default_factory=list)
    image: Json = Field(default_factory=dict)  # an ImageExamination; empty: the image could not be read
    labels: Json = Field(default_factory=dict)  # LabelStatistics; empty: it has no mask
    thumbnail: str | None = None  # key of it, with the outlines of its mask
    made: list[MadeFile] = Field(default_factory=list)
    read: dict[str, FileRead] = Field(default_factory=dict)  # by file name

    @property
    def errors(self) -> list[Problem]:
        """What keeps the image out of the dataset."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def source_file(self) -> str | None:
        """The file that holds it and others."""
        return self.source["image"] if self.source.get("page") is not None else None

    def as_json(self) -> Json:
        """As blocks hand it on: texts from files may hold what the database does not keep."""
        handed: Json = clean(self.model_dump(mode="json"))
        return handed

    def as_row(self) -> dict[str, Any]:
        """The columns of its DatasetImage."""
        image = self.image
        return {
            "name": self.name,
            "state": ManifestState.REJECTED if self.errors else ManifestState.ACCEPTED,
            "file": self.file,
            "parts": self.parts,
            "mask": self.mask,
            "mask_kind": self.mask_kind,
            "types": self.types,
            "classes": self.classes,
            "height": image.get("height"),
            "width": image.get("width"),
            "channels": image.get("channels", []),
            "dtype": image.get("dtype"),
            "mpp": self.mpp,
            "split": self.split,
            "group": self.group,
            "problems": [problem.model_dump() for problem in self.problems],
            "statistics": {"image": {k: v for k, v in image.items() if k != "fingerprint"}, "labels": self.labels},
            "source": self.source,
        }
