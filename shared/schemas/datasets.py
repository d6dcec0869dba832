"""Wire shapes of datasets, their uploads and their versions."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.schemas.pages import Page

MAX_FILES = 10_000  # of one request; more files go in further versions
MAX_FILE_BYTES = 5 * 1024**3  # what one presigned PUT may carry (the S3 limit)


def _check_file_name(name: str) -> str:
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or not name.isprintable():
        raise ValueError(f"{name!r} is no relative path like 'images/a.png'")
    return name


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", examples=["cohort-7"])]
FileName = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_check_file_name)]
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
    """The files to upload, or the files a new version consists of."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"files": [{"name": "images/a.png", "sha256": "0" * 64, "bytes": 1024}]}]},
    )

    files: list[FileIn] = Field(min_length=1, max_length=MAX_FILES)


class UploadOut(BaseModel):
    """Where to send one file. `url` is null when the store already holds these bytes."""

    name: str
    sha256: str
    url: str | None = Field(description="presigned: PUT the raw bytes here, with no further header")


class UploadsOut(BaseModel):
    """One entry per requested file, in the same order."""

    files: list[UploadOut]
    expires_in: int = Field(description="seconds for which the URLs work")


class DatasetVersionOut(BaseModel):
    """An immutable list of files. The same files sent again give the same version."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    dataset_id: UUID
    number: int
    digest: str = Field(description="sha256 over the sorted names and hashes")
    images: int
    masks: int
    created_at: datetime


class DatasetsPage(Page):
    """Newest first."""

    items: list[DatasetOut]
