"""Bytes in the object store, whoever refers to them; uploads on their way; where a lab's own buckets may be read."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.tables.base import Base, Owned


class StoredObject(Owned, Base):
    """An object that files of datasets refer to. Several files, of several datasets, may be one object.

    The platform's own lie under their hash. Foreign ones (`bucket`) lie where the lab keeps them, are only read, and
    have no hash before they were read.
    """

    __tablename__ = "objects"
    __table_args__ = (
        Index(None, "workspace_id", "key", unique=True, postgresql_where=text("bucket IS NULL")),
        # A foreign object that the lab replaces is another one: what was registered before does not change with it.
        Index(
            None,
            "workspace_id",
            "bucket",
            "key",
            "etag",
            unique=True,
            postgresql_where=text("bucket IS NOT NULL"),
            postgresql_nulls_not_distinct=True,
        ),
        Index(None, "workspace_id", "sha256"),
        Index(None, "wanted_at"),
    )

    bucket: Mapped[str | None]
    key: Mapped[str]
    sha256: Mapped[str | None]
    bytes: Mapped[int] = mapped_column(BigInteger)
    etag: Mapped[str | None]  # the store's, when it was listed or verified: another one means other bytes
    verified_at: Mapped[datetime | None]  # when it was read whole and had its hash
    wanted_at: Mapped[datetime] = mapped_column(server_default=func.now())  # last asked for: not collected for a while


class Upload(Owned, Base):
    """A large file on its way in parts, so that a broken line costs one part."""

    __tablename__ = "uploads"
    __table_args__ = (UniqueConstraint("workspace_id", "sha256"),)

    sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    part_bytes: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str]
    store_upload: Mapped[str]  # the store's name for it


class Source(Owned, Base):
    """A prefix in a bucket that an administrator lets a workspace register in place."""

    __tablename__ = "sources"
    __table_args__ = (UniqueConstraint("workspace_id", "name"),)

    name: Mapped[str]
    bucket: Mapped[str]
    prefix: Mapped[str]
