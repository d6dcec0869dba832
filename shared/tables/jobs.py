"""Jobs, their images and their blocks: the state machines of the platform."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.tables.base import Base, Json, Owned, state_column


class JobKind(StrEnum):
    """What a job does."""

    SEGMENT = "segment"
    TRAIN = "train"
    IMPORT = "import"
    INGEST = "ingest"
    PREPROCESS = "preprocess"
    EVALUATE = "evaluate"


class JobState(StrEnum):
    """queued → running → succeeded | partial | failed | cancelled, with cancelling on the way to the last."""

    QUEUED = "queued"  # no block was claimed yet
    RUNNING = "running"  # at least one block was claimed
    CANCELLING = "cancelling"  # wanted no more; some block is still held
    SUCCEEDED = "succeeded"  # everything was done and verified
    PARTIAL = "partial"  # some images were done, others failed
    FAILED = "failed"  # nothing was done; `error` says why
    CANCELLED = "cancelled"  # ended by the user

    @property
    def final(self) -> bool:
        """Whether nothing will happen to the job any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING)


class ImageState(StrEnum):
    """pending → done | failed | cancelled."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """What a block is for. `shared.domain.stages` says which follows which."""

    BUNDLE = "bundle"  # of many small images: everything, from their pixels to their masks
    PLAN = "plan"  # of an image: check it, cut it into predict blocks
    PREDICT = "predict"  # of a region: pixels in, probabilities out
    DIVIDE = "divide"  # of an image: cut it into label blocks
    LABEL = "label"  # of a region: the objects in it, from its probabilities and those around it
    ASSEMBLE = "assemble"  # of an image: verify all regions, join their objects, write what was asked for
    SUMMARISE = "summarise"  # of a segment or evaluate job: tables, report
    TRAIN = "train"  # of a training job: the whole training
    ARRANGE = "arrange"  # of a dataset version: by which layout its files are images and masks
    EXAMINE = "examine"  # of some images of a version, or one: read, check, count
    TRANSFORM = "transform"  # of some images of a version, or one: the steps of a preprocess job
    REPORT = "report"  # of a version: duplicates, leakage, report, manifest
    LOAD = "load"  # of a training or an import: put the new version on the model server
    CLOSE = "close"  # of a job: write the manifest


class BlockState(StrEnum):
    """pending → leased → done | failed | cancelled; leased → pending when the lease ends without an answer."""

    PENDING = "pending"  # nobody holds it
    LEASED = "leased"  # `owner` holds it until `lease_until`
    DONE = "done"  # committed, once
    FAILED = "failed"  # given up; `error` says why
    CANCELLED = "cancelled"  # not wanted any more: the job was cancelled or its image failed


OPEN_BLOCK = (BlockState.PENDING, BlockState.LEASED)


class Job(Owned, Base):
    """An order and its fate. `spec` is an immutable snapshot: nothing it needs can change under it."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("workspace_id", "idempotency_key"),
        Index(None, "workspace_id", "created_at", "id"),
        Index(
            "ix_jobs_untidied",
            "finished_at",
            postgresql_where=text("tidied_at IS NULL AND finished_at IS NOT NULL AND kind IN ('segment','evaluate')"),
        ),
        CheckConstraint(
            "(finished_at IS NULL) = (state IN ('queued','running','cancelling'))", name="finished_when_final"
        ),
    )

    kind: Mapped[JobKind] = mapped_column(state_column(JobKind))
    state: Mapped[JobState] = mapped_column(state_column(JobState), default=JobState.QUEUED)
    spec: Mapped[Json]
    idempotency_key: Mapped[str]
    order_digest: Mapped[str]  # sha256 of the order: the same key with another order is refused
    error: Mapped[Json | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    tidied_at: Mapped[datetime | None]  # since then nothing of it is in the store but its artifacts


class JobImage(Owned, Base):
    """An image of a job, so that one bad image is one bad image."""

    __tablename__ = "job_images"
    __table_args__ = (UniqueConstraint("job_id", "ordinal"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    ordinal: Mapped[int]
    name: Mapped[str]
    bucket: Mapped[str | None]  # that its bytes are in; None: the platform's own
    key: Mapped[str]  # of its bytes in the store
    sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    etag: Mapped[str | None]  # the store's when the bytes were verified: another one means other bytes
    verified: Mapped[bool] = mapped_column(server_default=text("false"))  # its bytes were read whole and had the hash
    # Further files that the image is made of: {"name": relative path, "key", "bucket", "sha256", "bytes"}.
    parts: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    # Of ingest and preprocess: which files of the version it is made of, or what is to be made of it.
    entry: Mapped[Json] = mapped_column(server_default=text("'{}'::jsonb"))
    state: Mapped[ImageState] = mapped_column(state_column(ImageState), default=ImageState.PENDING)
    facts: Mapped[Json] = mapped_column(default=dict)  # what planning found: size, core, intensity window
    # What was found in it: foreground, seams, tiles skipped.
    result: Mapped[Json] = mapped_column(server_default=text("'{}'::jsonb"))
    # Of ingest and preprocess: everything found out about what it became, for the report and the manifest.
    findings: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    error: Mapped[Json | None]


class Block(Owned, Base):
    """The unit of work, retry and resume. One owner at a time; `fence` tells a late one from the present one."""

    __tablename__ = "blocks"
    __table_args__ = (
        UniqueConstraint("job_id", "stage", "image_id", "ordinal", postgresql_nulls_not_distinct=True),
        Index("ix_blocks_to_ring", "queue", "ring_at", postgresql_where=text("state = 'pending'")),
        Index("ix_blocks_leased", "lease_until", postgresql_where=text("state = 'leased'")),
        Index("ix_blocks_open", "job_id", "image_id", postgresql_where=text("state IN ('pending','leased')")),
        CheckConstraint(
            "(state = 'leased') = (owner IS NOT NULL AND lease_until IS NOT NULL)", name="leased_by_someone"
        ),
        CheckConstraint("(state = 'done') = (committed_at IS NOT NULL)", name="done_when_committed"),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    image_id: Mapped[UUID | None] = mapped_column(ForeignKey("job_images.id", ondelete="CASCADE"))
    stage: Mapped[Stage] = mapped_column(state_column(Stage))
    queue: Mapped[str]
    ordinal: Mapped[int]
    spec: Mapped[Json] = mapped_column(default=dict)
    state: Mapped[BlockState] = mapped_column(state_column(BlockState), default=BlockState.PENDING)
    ring_at: Mapped[datetime] = mapped_column(server_default=func.now())  # when a pending block is due to be rung
    not_before: Mapped[datetime] = mapped_column(server_default=func.now())  # the pause after a failed try ends
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(default=0)  # tries begun that count; giving back a block is no try
    fence: Mapped[int] = mapped_column(default=0)  # grows with every claim
    started_at: Mapped[datetime | None]
    committed_at: Mapped[datetime | None]
    note: Mapped[Json] = mapped_column(default=dict)  # latest remark of the worker, for progress bars
    result: Mapped[Json] = mapped_column(default=dict)  # seconds per step, objects written
    error: Mapped[Json | None]  # cause of the last failed try
