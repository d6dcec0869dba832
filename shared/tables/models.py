"""Models and their versions."""

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
