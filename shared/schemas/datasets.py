"""Wire shapes of datasets, their uploads and their versions."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from shared.schemas.manifests import Problem
from shared.schemas.pages import Page

MAX_FILES = 40_000  # of a version: DSB2018 as published has 30,000; looking each up in the store takes 2 ms
MAX_NAME = 500  # characters
MAX_PART_BYTES, MAX_DEPTH = 255, 32  # of what stands between two slashes, and how many of them: what disks hold
DERIVED = "derived/"  # what the names of files begin with that jobs of a version make, and no others
MAX_FILE_BYTES = 5 * 1024**4  # of one object (the S3 limit)


def check_file_name(name: str) -> str:
    """The name. Raises ValueError unless it is a plain relative path."""
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"a name of {len(name)} characters; {MAX_NAME} is the most")
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or not name.isprintable():
        raise ValueError(f"{name!r} is no relative path like 'images/a.png'")
    if len(parts) > MAX_DEPTH or any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        raise ValueError(f"{name!r}: {MAX_DEPTH} folders, of {MAX_PART_BYTES} bytes each, are the most that disks hold")
    return name


def _check_folder(path: str) -> str:
    return f"{check_file_name(path.strip('/'))}/" if path.strip("/") else ""


VersionStateName = Literal["sealed", "ingesting", "ready", "invalid"]
FileRoleName = Literal["image", "mask", "part", "other", "derived"]
ImageStateName = Literal["accepted", "rejected"]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
Name = Annotated[str, Field(pattern=NAME, examples=["cohort-7"])]
FileName = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(check_file_name)]
FolderPath = Annotated[str, Field(max_length=MAX_NAME), AfterValidator(_check_folder)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class DatasetIn(BaseModel):
    """A new, empty dataset."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "cohort-7"}]})

    name: Name


class DatasetOut(BaseModel):
    """A named collection of images; its content lives in numbered, immutable versions."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    created_at: datetime


class FileIn(BaseModel):
    """A file as the client sees it on its own disk."""

    model_config = ConfigDict(extra="forbid")

    name: FileName = Field(description="relative path; below a folder `masks` it is a mask, else an image")
    sha256: Sha256
    bytes: int = Field(ge=0, le=MAX_FILE_BYTES)


class FilesIn(BaseModel):
    """The files to upload."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"files": [{"name": "images/a.png", "sha256": "0" * 64, "bytes": 1024}]}]},
    )

    files: list[FileIn] = Field(min_length=1, max_length=MAX_FILES)


class SourceIn(BaseModel):
    """A folder of a place that an administrator allowed: its files become a version where they lie."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(description="of the source, as `GET /v1/sources` lists it")
    path: FolderPath = Field("", description="relative to the source; empty: all of it")


class VersionIn(BaseModel):
    """What a new version consists of: files that were uploaded, or files that lie in a bucket of the lab's own."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"files": [{"name": "images/a.png", "sha256": "0" * 64, "bytes": 1024}]},
                {"source": {"name": "scanner", "path": "2026/cohort-7/"}, "parent": 1},
            ]
        },
    )

    files: list[FileIn] | None = Field(None, min_length=1, max_length=MAX_FILES)
    source: SourceIn | None = Field(None, description="instead of `files`; nothing is copied")
    parent: int | None = Field(
        None, ge=1, lt=2**31, description="number of the version this one goes on from; the newest by default"
    )

    @model_validator(mode="after")
    def _has_files(self) -> Self:
        if (self.files is None) == (self.source is None):
            raise ValueError("give either files or source")
        return self


class SourceOut(BaseModel):
    """A place in a bucket of the lab's own whose files may be registered where they lie."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    bucket: str
    prefix: str


class SourcesOut(BaseModel):
    """By name."""

    items: list[SourceOut]


class PartOut(BaseModel):
    """Where to send one part of a file."""

    number: int = Field(description="from 1; part n begins at byte (n - 1) * part_bytes of the file")
    url: str = Field(description="presigned: PUT the raw bytes of the part here, with no further header")


class MultipartOut(BaseModel):
    """A file that goes in parts. Send those that are listed, roughly in order; ask again while some are missing."""

    upload: UUID | None = Field(description="null where nothing has begun: ask for this file again, with fewer others")
    part_bytes: int = Field(description="size of every part but the last")
    parts: list[PartOut] = Field(description="parts that the store lacks, the first of them where there are many")
    held: int = Field(description="parts that the store has")


class UploadOut(BaseModel):
    """Where to send one file: whole to `url`, or in parts. Neither when the store already holds these bytes."""

    name: str
    sha256: str
    url: str | None = Field(None, description="presigned: PUT the raw bytes here, with no further header")
    multipart: MultipartOut | None = None


class UploadsOut(BaseModel):
    """One entry per requested file, in the same order."""

    files: list[UploadOut]
    expires_in: int = Field(description="seconds for which the URLs work")


class CompleteIn(BaseModel):
    """A file whose parts have all been sent."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"sha256": "0" * 64}]})

    sha256: Sha256


class StoredOut(BaseModel):
    """A file that the store holds. Its hash is believed until a worker has read it."""

    model_config = ConfigDict(from_attributes=True)

    sha256: str
    bytes: int


class DetectedOut(BaseModel):
    """The layout that the names of the files suggest; ingest goes by it unless it is told another."""

    layout: str
    images: int = Field(description="a stack or an array counts once")
    masked: int | None = Field(description="those with masks; null where only reading tells")
    why: str
    alternatives: list[str] = Field(description="other layouts that would find images, the likeliest first")


class DatasetVersionOut(BaseModel):
    """An immutable list of files. The same files sent again give the same version."""

    id: UUID
    dataset_id: UUID
    number: int
    digest: str = Field(
        description="sha256 over the sorted names, hashes and sizes; names a version among the dataset's"
    )
    images: int = Field(description="files that look like images; a folder that is one image counts once")
    masks: int = Field(description="files that look like masks")
    created_at: datetime
    state: VersionStateName = Field(description="sealed → ingesting → ready | invalid")
    parent: int | None = Field(description="number of the version it goes on from")
    layout: str | None = Field(description="by which its files were read; null before ingest")
    detected: DetectedOut | None = Field(description="null of a version that a job made")
    files: int
    accepted: int = Field(description="images of its manifest that may be used; 0 before ingest")
    rejected: int = Field(description="images of its manifest that may not")
    job_id: UUID | None = Field(description="the job that ingested or made it")
    origin: dict[str, Any] = Field(description="what it was made from, and how")
    steps: list[Any] = Field(description="every preprocessing step since the files were uploaded")
    summary: dict[str, Any] = Field(description="counts and statistics of the accepted images")


class VersionsPage(Page):
    """Newest first."""

    items: list[DatasetVersionOut]


class FileOut(BaseModel):
    """A file of a version."""

    name: str
    role: FileRoleName = Field(description="told from the names when the version was sealed; derived: made by a job")
    sha256: str | None = Field(description="null of a file that was registered in place, until ingest has read it")
    bytes: int
    url: str = Field(description="to fetch it from the store, for an hour")


class FilesPage(Page):
    """In the version's order."""

    items: list[FileOut]


class ImageOut(BaseModel):
    """An image of a version's manifest: one image, and at most one mask."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    state: ImageStateName
    file: str | None
    parts: list[str]
    mask: str | None
    mask_kind: str | None = Field(
        description="instances, binary or classes; geojson or coco of a slide whose mask stays outlines"
    )
    types: str | None = Field(description="a second mask beside one of instances: the class of each pixel")
    classes: list[Any]
    height: int | None = Field(description="px")
    width: int | None = Field(description="px")
    channels: list[Any]
    dtype: str | None
    mpp: float | None = Field(description="µm per pixel")
    split: str | None
    group: str | None = Field(description="images of one group are never parted by a split")
    problems: list[Problem]
    statistics: dict[str, Any]
    source: dict[str, Any] = Field(description="what it was made from, and how")


class ImagesPage(Page):
    """The manifest, in its order; empty before ingest."""

    items: list[ImageOut]


class DifferenceOut(BaseModel):
    """What became of the files of one version in another, by name. Counts of all, names of the first 1,000."""

    model_config = ConfigDict(from_attributes=True)

    counts: dict[str, int] = Field(description="files that were added, removed, changed, or are the same")
    added: list[str]
    removed: list[str]
    changed: list[str]


class DatasetsPage(Page):
    """Newest first."""

    items: list[DatasetOut]
