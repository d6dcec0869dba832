"""What the API answers, as typed objects.

Unknown fields are ignored and late-comers have defaults, so that an older client understands a newer platform.
"""

from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")

FINISHED = frozenset({"succeeded", "partial", "failed", "cancelled"})  # states a job never leaves


class Shape(BaseModel):
    """Common to all answers."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Page(Shape, Generic[T]):
    """A part of a list; `next_cursor` asks for what follows and is None at the end."""

    items: list[T]
    next_cursor: str | None = None


class Dataset(Shape):
    """A named collection of images; its content lives in numbered, immutable versions."""

    id: UUID
    name: str
    created_at: datetime


class Detected(Shape):
    """The layout that the names of a version's files suggest."""

    layout: str
    images: int
    masked: int | None = None  # those with masks, where names tell
    why: str = ""
    alternatives: list[str] = Field(default_factory=list)


class DatasetVersion(Shape):
    """An immutable list of files. The same files sent again give the same version."""

    id: UUID
    dataset_id: UUID
    number: int
    digest: str  # names it among the versions of its dataset
    images: int
    masks: int = 0
    created_at: datetime
    state: str = "sealed"  # sealed, ingesting, ready or invalid
    parent: int | None = None  # number of the version it goes on from
    layout: str | None = None  # by which its files were read; None before ingest
    detected: Detected | None = None
    files: int = 0
    accepted: int = 0  # images of its manifest
    rejected: int = 0
    job_id: UUID | None = None  # the job that ingested or made it
    origin: dict[str, Any] = Field(default_factory=dict)
    steps: list[Any] = Field(default_factory=list)
    summary: dict[str, Any] = Field(default_factory=dict)


class DatasetFile(Shape):
    """A file of a version."""

    name: str
    role: str  # image, mask, part, other or derived
    sha256: str | None = None  # unknown of a file that was registered in place, until ingest has read it
    bytes: int
    url: str


class Problem(Shape):
    """A finding about an image. An error keeps it out of the dataset, a warning does not."""

    code: str
    severity: str  # error or warning
    text: str


class DatasetImage(Shape):
    """An image of a version's manifest."""

    name: str
    state: str  # accepted or rejected
    file: str | None = None
    parts: list[str] = Field(default_factory=list)
    mask: str | None = None
    mask_kind: str | None = None  # instances, binary or classes; geojson or coco where a slide's mask stays outlines
    types: str | None = None  # a second mask beside one of instances: the class of each pixel
    classes: list[Any] = Field(default_factory=list)
    height: int | None = None  # px
    width: int | None = None  # px
    channels: list[Any] = Field(default_factory=list)
    dtype: str | None = None
    mpp: float | None = None  # µm per pixel
    split: str | None = None
    group: str | None = None
    problems: list[Problem] = Field(default_factory=list)
    statistics: dict[str, Any] = Field(default_factory=dict)
    source: dict[str, Any] = Field(default_factory=dict)


class Difference(Shape):
    """What became of the files of one version in another. Counts of all, names of the first 1,000 of each kind."""

    counts: dict[str, int]  # added, removed, changed, same
    added: list[str] = Field(default_factory=list)
    removed: list[str] = Field(default_factory=list)
    changed: list[str] = Field(default_factory=list)


class Source(Shape):
    """A place in a bucket of the lab's own whose files may be registered where they lie."""

    name: str
    bucket: str
    prefix: str


class Sources(Shape):
    """By name."""

    items: list[Source]


class FilePart(Shape):
    """Where to PUT one part of a file, numbered from 1."""

    number: int
    url: str


class Multipart(Shape):
    """A file that goes in parts: those that the store lacks, or the first of them."""

    part_bytes: int
    parts: list[FilePart]
    held: int  # parts that the store has


class Upload(Shape):
    """Where to PUT one file, whole or in parts; neither when the store already holds these bytes."""

    name: str
    sha256: str
    url: str | None = None
    multipart: Multipart | None = None


class Stored(Shape):
    """A file that the store holds."""

    sha256: str
    bytes: int


class Uploads(Shape):
    """One entry per requested file, in the same order."""

    files: list[Upload]


class Cause(Shape):
    """Why something failed."""

    type: str = "unknown"  # input, unavailable, lost, bug
    detail: str = ""


class Stage(Shape):
    """One stage of a job, summed over its blocks. Seconds from the first claim to the last commit."""

    stage: str
    blocks: int
    done: int
    wall_seconds: float = 0.0
    busy_seconds: dict[str, float] = Field(default_factory=dict)


class JobProgress(Shape):
    """Blocks known so far; planning adds more."""

    blocks: int = 0
    done: int = 0
    failed: int = 0
    images: int = 0
    images_done: int = 0
    images_failed: int = 0


class Seams(Shape):
    """How far tiled answers were from answers without seams: windows across seams, predicted once more as one tile."""

    windows: int  # compared
    largest: int  # difference of a probability, steps of 1/255
    mean: float  # the same


class Summary(Shape):
    """What the images of a segment or evaluate job have in common."""

    tiles: int = 0
    skipped_tiles: int = 0  # without tissue
    seams: Seams | None = None  # None if no image had any
    objects: int = 0  # found in all images together
    flagged_images: int = 0  # whose results should be looked at: the job's report says why


class Job(Shape):
    """A job as it stood when the platform answered."""

    id: UUID
    kind: str
    state: str  # queued, running, cancelling, succeeded, partial, failed or cancelled
    spec: dict[str, Any] = Field(default_factory=dict)  # what was ordered, references resolved
    error: Cause | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether the state is final."""
        return self.state in FINISHED


class JobResult(Shape):
    """The dataset version that an ingest or a preprocess ended with."""

    id: UUID
    dataset_id: UUID
    number: int
    state: str  # ready or invalid, as a rule


class JobDetail(Job):
    """A job with its progress and its timings."""

    progress: JobProgress = Field(default_factory=JobProgress)
    stages: list[Stage] = Field(default_factory=list)
    summary: Summary | None = None  # of a segment or evaluate job that has ended
    evaluation: dict[str, Any] | None = None  # of an evaluate job that has ended: scores with their intervals
    result: JobResult | None = None  # of an ingest or a preprocess that has ended
    note: dict[str, Any] = Field(default_factory=dict)  # latest remark of a running block, such as a training's epoch


class JobImage(Shape):
    """One image of a job."""

    id: UUID
    name: str
    state: str  # pending, done, failed or cancelled
    facts: dict[str, Any] = Field(default_factory=dict)  # height, width, mpp, tiles and so on
    result: dict[str, Any] = Field(default_factory=dict)  # objects, quality, foreground_fraction, seams …
    error: Cause | None = None


class Artifact(Shape):
    """Something a job made. `name` is chosen by the server: never a path to trust."""

    id: UUID
    image: str | None = None  # name of the image it belongs to; None: of the job
    kind: str
    name: str
    media_type: str = "application/octet-stream"
    bytes: int
    sha256: str
    url: str


class ModelVersion(Shape):
    """One trained network, with its tiling contract and its card."""

    id: UUID
    job_id: UUID | None = None  # the training or import that registered it
    number: int
    state: str
    digest: str
    contract: dict[str, Any] = Field(default_factory=dict)
    card: dict[str, Any] = Field(default_factory=dict)
    serving: dict[str, Any] | None = None  # engine, precision, differences: measured when the version was loaded
    created_at: datetime


class Model(Shape):
    """A name under which versions are registered, newest first."""

    id: UUID
    name: str
    created_at: datetime
    versions: list[ModelVersion] = Field(default_factory=list)
    aliases: dict[str, int] = Field(default_factory=dict)  # alias → number of the version it stands for


class Recipe(Shape):
    """A named training configuration, to be ordered by name and overridden field by field."""

    name: str
    title: str = ""
    source: str = ""  # whose configuration it is
    fields: dict[str, Any] = Field(default_factory=dict)  # what it fills a train order with
    small: dict[str, Any] = Field(default_factory=dict)  # laid over `fields` by `small=True`
