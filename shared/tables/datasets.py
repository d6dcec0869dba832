"""Datasets, their immutable versions, and the files of a version."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shared.tables.base import Base, Owned, state_column


class FileRole(StrEnum):
    """What a file is for. Told from its path: anything below a folder `masks` is a mask."""

    IMAGE = "image"
    MASK = "mask"


class Dataset(Owned, Base):
    """A name for versions that belong together."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("workspace_id", "name"),)

    name: Mapped[str]


class DatasetVersion(Owned, Base):
    """An immutable list of files. `digest` makes sending the same list twice harmless."""

    __tablename__ = "dataset_versions"
    __table_args__ = (UniqueConstraint("dataset_id", "number"), UniqueConstraint("dataset_id", "digest"))

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    number: Mapped[int]
    digest: Mapped[str]
    images: Mapped[int]
    masks: Mapped[int]


class DatasetFile(Owned, Base):
    """A file of a version. Its bytes lie in the store under its hash."""

    __tablename__ = "dataset_files"
    __table_args__ = (UniqueConstraint("version_id", "name"), Index(None, "version_id", "role", "ordinal"))

    version_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_versions.id", ondelete="CASCADE"))
    ordinal: Mapped[int]
    role: Mapped[FileRole] = mapped_column(state_column(FileRole))
    name: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
