"""Models, their versions, and the aliases that versions go by."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shared.tables.base import Base, Json, Owned, state_column


class ModelState(StrEnum):
    """registered → ready | failed."""

    REGISTERED = "registered"  # exported and stored, not yet seen at work
    READY = "ready"  # a model server has given its known answer
    FAILED = "failed"  # the model server could not load it, or answered wrongly


class Model(Owned, Base):
    """A name under which versions are registered."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("workspace_id", "name"),)

    name: Mapped[str]
    versions: Mapped[list["ModelVersion"]] = relationship(order_by="ModelVersion.number.desc()", lazy="raise")
    alias_rows: Mapped[list["ModelAlias"]] = relationship(order_by="ModelAlias.name", lazy="raise", viewonly=True)

    @property
    def aliases(self) -> dict[str, int]:
        """Alias → number of the version it stands for."""
        numbers = {version.id: version.number for version in self.versions}
        return {alias.name: numbers[alias.version_id] for alias in self.alias_rows}


class ModelVersion(Owned, Base):
    """An exported network. Its files lie in the store below `models/{model_id}/{id}/`."""

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("model_id", "number"),)

    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), unique=True)
    number: Mapped[int]
    state: Mapped[ModelState] = mapped_column(state_column(ModelState), default=ModelState.REGISTERED)
    digest: Mapped[str]  # sha256 of model.onnx
    files: Mapped[Json]  # name → sha256
    contract: Mapped[Json]
    card: Mapped[Json]
    serving: Mapped[Json | None]  # what a worker measured when it loaded the version; none before that


class ModelAlias(Owned, Base):
    """A name that stands for one version of the model and can be moved to another, such as `production`."""

    __tablename__ = "model_aliases"
    __table_args__ = (UniqueConstraint("model_id", "name"),)

    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    name: Mapped[str]
    version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id", ondelete="CASCADE"))


class ModelAliasMove(Owned, Base):
    """A step in the life of an alias, kept for ever: `created_at` is when it was made, `undone_at` when taken back."""

    __tablename__ = "model_alias_moves"
    __table_args__ = (UniqueConstraint("model_id", "alias", "number"),)

    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    alias: Mapped[str]
    number: Mapped[int]  # counts the moves of the alias: two may be made in the same moment
    from_version_id: Mapped[UUID | None] = mapped_column(  # none: the alias was made
        ForeignKey("model_versions.id", ondelete="CASCADE")
    )
    to_version_id: Mapped[UUID | None] = mapped_column(  # none: it was removed
        ForeignKey("model_versions.id", ondelete="CASCADE")
    )
    undone_at: Mapped[datetime | None]
