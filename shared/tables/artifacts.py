"""What jobs made, row by row: an object in the store without a row does not exist."""

from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shared.tables.base import Base, Owned


class Artifact(Owned, Base):
    """An object of a job. `name` is the path a user stores it under."""

    __tablename__ = "artifacts"
    __table_args__ = (
        UniqueConstraint("job_id", "name"),
        Index(None, "job_id", "kind"),
        Index(None, "key", postgresql_using="hash"),  # of perhaps millions that are long and much alike
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    image_id: Mapped[UUID | None] = mapped_column(ForeignKey("job_images.id", ondelete="CASCADE"))
    kind: Mapped[str]
    name: Mapped[str]
    key: Mapped[str]
    media_type: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
