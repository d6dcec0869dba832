"""Datasets, their immutable versions, the files of a version, and the images that ingest found in them."""

from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shared.tables.base import Base, Json, Owned, state_column
from shared.tables.objects import StoredObject

NOTHING, NONE = text("'{}'::jsonb"), text("'[]'::jsonb")


class FileRole(StrEnum):
    """What a file is for. Told from its name when a version is sealed; ingest looks closer."""

    IMAGE = "image"
    MASK = "mask"
    PART = "part"  # of an image that is made of several files
    OTHER = "other"  # annotations of several images, tables, what no layout has a use for
    DERIVED = "derived"  # made by a job of the version: a plane of a stack, a label image of many masks


class VersionState(StrEnum):
    """sealed → ingesting → ready | invalid; preprocess makes versions that are ready."""

    SEALED = "sealed"  # a list of files; nobody has looked into them
    INGESTING = "ingesting"  # a job looks at them
    READY = "ready"  # its manifest stands; some images may be rejected
    INVALID = "invalid"  # no image was accepted


class ManifestState(StrEnum):
    """Whether an image of a manifest may be used."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class Dataset(Owned, Base):
    """A name for versions that belong together."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("workspace_id", "name"),)

    name: Mapped[str]
    last_number: Mapped[int] = mapped_column(server_default="0")  # of its versions; never given again after a deletion


class DatasetVersion(Owned, Base):
    """An immutable list of files. `digest` makes sending the same list twice harmless."""

    __tablename__ = "dataset_versions"
    __table_args__ = (
        UniqueConstraint("dataset_id", "number"),
        UniqueConstraint("dataset_id", "digest"),
        Index(None, "workspace_id", "cache_digest"),
    )

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    number: Mapped[int]
    digest: Mapped[str]
    images: Mapped[int]
    masks: Mapped[int]
    state: Mapped[VersionState] = mapped_column(state_column(VersionState), server_default="sealed")
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("dataset_versions.id", ondelete="SET NULL"))
    layout: Mapped[str | None]  # by which its files were read; None before ingest
    job_id: Mapped[UUID | None]  # the job that ingested or made it; jobs may be deleted before it
    # What preprocess made it by: the input version and its digest, and every step since the files were uploaded.
    origin: Mapped[Json] = mapped_column(server_default=NOTHING)
    steps: Mapped[list[Any]] = mapped_column(server_default=NONE)
    cache_digest: Mapped[str | None]  # sha256 of input and steps: the same again is this version
    summary: Mapped[Json] = mapped_column(server_default=NOTHING)  # counts and statistics of the accepted images


class DatasetFile(Owned, Base):
    """A file of a version. `object_id` is where its bytes are; `sha256` is unknown until a foreign one is read."""

    __tablename__ = "dataset_files"
    __table_args__ = (
        UniqueConstraint("version_id", "name"),
        Index(None, "version_id", "role", "ordinal"),
        Index(None, "object_id"),
    )

    version_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_versions.id", ondelete="CASCADE"))
    object_id: Mapped[UUID] = mapped_column(ForeignKey("objects.id", ondelete="RESTRICT"))
    ordinal: Mapped[int]
    role: Mapped[FileRole] = mapped_column(state_column(FileRole))
    name: Mapped[str]
    sha256: Mapped[str | None]
    bytes: Mapped[int] = mapped_column(BigInteger)
    object: Mapped[StoredObject] = relationship(lazy="raise", viewonly=True)  # to be loaded with the file


class DatasetImage(Owned, Base):
    """An image of a version's manifest: one image file, perhaps with parts, and at most one mask file."""

    __tablename__ = "dataset_images"
    __table_args__ = (UniqueConstraint("version_id", "ordinal"), UniqueConstraint("version_id", "name"))

    version_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_versions.id", ondelete="CASCADE"))
    ordinal: Mapped[int]
    name: Mapped[str]
    state: Mapped[ManifestState] = mapped_column(state_column(ManifestState))
    file: Mapped[str | None]  # name of the file it is in; None: no file could be made of it
    parts: Mapped[list[Any]] = mapped_column(server_default=NONE)  # names of the further files it is made of
    mask: Mapped[str | None]  # name of the file its mask is in
    mask_kind: Mapped[str | None]  # instances, binary or classes; geojson or coco of a slide whose mask is not drawn
    types: Mapped[str | None]  # name of a second mask file beside one of instances: the class of each pixel
    classes: Mapped[list[Any]] = mapped_column(server_default=NONE)  # names, if they are known; 0 is the background
    height: Mapped[int | None]
    width: Mapped[int | None]
    channels: Mapped[list[Any]] = mapped_column(server_default=NONE)  # names
    dtype: Mapped[str | None]
    mpp: Mapped[float | None]
    split: Mapped[str | None]  # train, validation or test, if somebody said so
    group: Mapped[str | None]  # what must not be parted by a split
    problems: Mapped[list[Any]] = mapped_column(server_default=NONE)
    statistics: Mapped[Json] = mapped_column(server_default=NOTHING)
    source: Mapped[Json] = mapped_column(server_default=NOTHING)  # what it was made from, and how
