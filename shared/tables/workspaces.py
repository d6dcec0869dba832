"""Workspaces and the keys that open them."""

from datetime import datetime

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from shared.tables.base import Base, Keyed, Owned


class Workspace(Keyed, Base):
    """A lab: the wall that no query crosses."""

    __tablename__ = "workspaces"

    name: Mapped[str] = mapped_column(unique=True)


class ApiKey(Owned, Base):
    """A key, as its hash: the key itself is shown once, when it is made."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "workspace_id"),)

    label: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)  # sha256: the key is 256 random bits, no slow hash is needed
    revoked_at: Mapped[datetime | None]
