"""What was asked for of an image: every writer gets its objects block by block, and what it wrote becomes artifacts."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from services.worker.context import Context
from services.worker.stages.label_shards import LabelShards
from services.worker.stages.subject import Subject
from services.worker.writers.coco import CocoPart
from services.worker.writers.columns import Column, plan_columns
from services.worker.writers.geojson import GeoJsonWriter
from services.worker.writers.label_image import LabelPng, LabelTiff, is_png
from services.worker.writers.ome_tiff import LabelPyramid
from services.worker.writers.palette import colour_table
from services.worker.writers.tables import CsvTable, ParquetTable
from shared.domain.blocks import NewArtifact
from shared.imaging.objects.table import ObjectTable
from shared.imaging.tiling import Box
from shared.schemas.outputs import Output
from shared.storage import Stored, image_key
from shared.tables import JobImage

Labels = NDArray[np.uint32]
COCO_PART = "coco.jsonl"  # what an image adds to the job's file
WRITERS = 2  # of a large image's exports at work at once: pixels are compressed while numbers are spelled


class Export(Protocol):
    """One kind of result in the making."""

    def add(self, block: Box, labels: Labels, table: ObjectTable) -> None:
        """The labels (h, w) of a block, and the objects that belong to it."""

    def store(self) -> list[NewArtifact]:
        """Put what was written into the store, once everything is."""


class _TakesTable(Protocol):
    def add(self, table: ObjectTable) -> None: ...


class _TakesLabels(Protocol):
    def add(self, block: Box, labels: Labels) -> None: ...


@dataclass(frozen=True)
class Shelf:
    """Where the files of an image are made: in memory, or of a large image in a folder."""

    context: Context
    image: JobImage
    folder: Path | None

    def open(self, suffix: str, stack: ExitStack) -> BinaryIO:
        """A file to write to. One on disk is closed by the stack; one in memory is no more when it is closed."""
        return BytesIO() if self.folder is None else stack.enter_context((self.folder / suffix).open("w+b"))

    def keep(self, file: BinaryIO, suffix: str) -> Stored:
        """Store a file that is whole."""
        key, storage = image_key(self.image.job_id, self.image.id, suffix), self.context.storage
        if isinstance(file, BytesIO):
            return storage.put(key, file.getvalue())
        return storage.put_file(key, Path(file.name))


class _TableFile:
    """Through a writer of objects to a file."""

    def __init__(self, shelf: Shelf, about: "_File", writer: _TakesTable, file: BinaryIO) -> None:
        self._shelf, self._about, self._writer, self._file = shelf, about, writer, file

    def add(self, block: Box, labels: Labels, table: ObjectTable) -> None:  # noqa: ARG002
        self._writer.add(table)

    def store(self) -> list[NewArtifact]:
        return self._about.name(self._shelf, self._shelf.keep(self._file, self._about.suffix))


class _LabelFile:
    """Through a writer of label pixels to a file."""

    def __init__(self, shelf: Shelf, about: "_File", writer: _TakesLabels, file: BinaryIO) -> None:
        self._shelf, self._about, self._writer, self._file = shelf, about, writer, file

    def add(self, block: Box, labels: Labels, table: ObjectTable) -> None:  # noqa: ARG002
        self._writer.add(block, labels)

    def store(self) -> list[NewArtifact]:
        return self._about.name(self._shelf, self._shelf.keep(self._file, self._about.suffix))


@dataclass(frozen=True)
class _File:
    """What a file is called, and what it is. One without a kind is for the job alone."""

    suffix: str
    media_type: str
    kind: str | None

    def name(self, shelf: Shelf, stored: Stored) -> list[NewArtifact]:
        if self.kind is None:
            return []
        return [NewArtifact(self.kind, f"{shelf.image.name}.{self.suffix}", self.media_type, stored)]


PARQUET = _File("objects.parquet", "application/vnd.apache.parquet", "table")
CSV = _File("objects.csv", "text/csv", "table")
GEOJSON = _File("objects.geojson", "application/geo+json", "geojson")
COCO = _File(COCO_PART, "application/jsonl", None)
PNG = _File("labels.png", "image/png", "labels")
TIFF = _File("labels.tif", "image/tiff", "labels")
OME_TIFF = _File("labels.ome.tif", "image/tiff", "labels")


class Exports:
    """All that is made of one image's objects. Files are whole after the `with`, and can be stored then."""

    def __init__(self, subject: Subject, outputs: tuple[Output, ...], shelf: Shelf, *, objects: int) -> None:
        """`objects`: how many there will be."""
        self._subject, self._shelf, self._objects = subject, shelf, objects
        self._stack = ExitStack()
        self._exports = list[Export]()
        self._outputs = outputs
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        with ExitStack() as opened:  # if one cannot be made, those before are closed
            self._stack = opened
            if self._shelf.folder is not None:
                self._pool = self._stack.enter_context(ThreadPoolExecutor(WRITERS, thread_name_prefix="exports"))
            for output in self._outputs:
                for make in _MAKERS.get(output, ()):
                    self._exports.append(make(self))
            self._stack = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, block: Box, labels: Labels, table: ObjectTable) -> None:
        """The labels (h, w) of a block of the image, and the objects that belong to it."""
        if self._pool is None:
            for export in self._exports:
                export.add(block, labels, table)
            return
        added = [self._pool.submit(export.add, block, labels, table) for export in self._exports]
        wait(added)  # for all of them, before an error closes what another is writing to
        for each in added:
            each.result()

    def store(self) -> list[NewArtifact]:
        """What became of them."""
        if self._shelf.folder is None:
            return [artifact for export in self._exports for artifact in export.store()]
        with ThreadPoolExecutor(WRITERS, thread_name_prefix="store") as pool:
            return list(chain.from_iterable(pool.map(lambda export: export.store(), self._exports)))

    def make_table(
        self, about: _File, make: Callable[[BinaryIO, Subject], AbstractContextManager[_TakesTable]]
    ) -> Export:
        """A file of objects."""
        file = self._shelf.open(about.suffix, self._stack)
        return _TableFile(self._shelf, about, self._stack.enter_context(make(file, self._subject)), file)

    def make_labels(self, about: _File, make: "_MakeLabels") -> Export:
        """A file of label pixels."""
        file = self._shelf.open(about.suffix, self._stack)
        writer = make(file, self._subject, self._shelf.folder)
        return _LabelFile(self._shelf, about, self._stack.enter_context(writer), file)

    def make_label_image(self) -> Export:
        """Of the kind that holds so many objects."""
        if is_png(self._subject.height, self._subject.width, objects=self._objects):
            return self.make_labels(PNG, _open_png)
        return self.make_labels(TIFF, _open_tiff)

    def make_shards(self) -> Export:
        """In the Zarr of the probabilities."""
        return LabelShards(self._shelf.context, self._subject)


_MakeLabels = Callable[[BinaryIO, Subject, Path | None], AbstractContextManager[_TakesLabels]]


def _plan(subject: Subject) -> tuple[Column, ...]:
    return plan_columns(subject.legend.channels, scaled=subject.mpp is not None)


def _open_parquet(file: BinaryIO, subject: Subject) -> ParquetTable:
    metadata = {"image": subject.image.name, "mpp": "" if subject.mpp is None else str(subject.mpp)}
    return ParquetTable(file, columns=_plan(subject), metadata=metadata)


def _open_csv(file: BinaryIO, subject: Subject) -> CsvTable:
    return CsvTable(file, columns=_plan(subject))


def _open_geojson(file: BinaryIO, subject: Subject) -> GeoJsonWriter:
    colours = {
        name: (int(red), int(green), int(blue))
        for name, (red, green, blue) in zip(subject.legend.classes, colour_table(), strict=False)
    }
    return GeoJsonWriter(file, columns=_plan(subject), image=subject.image.name, mpp=subject.mpp, colours=colours)


def _open_coco(file: BinaryIO, subject: Subject) -> CocoPart:
    return CocoPart(file, height=subject.height, width=subject.width, categories=subject.categories)


def _open_png(file: BinaryIO, subject: Subject, folder: Path | None) -> LabelPng:  # noqa: ARG001
    return LabelPng(file, height=subject.height, width=subject.width, mpp=subject.mpp)


def _open_tiff(file: BinaryIO, subject: Subject, folder: Path | None) -> LabelTiff:
    return LabelTiff(file, height=subject.height, width=subject.width, mpp=subject.mpp, folder=folder)


def _open_ome_tiff(file: BinaryIO, subject: Subject, folder: Path | None) -> LabelPyramid:
    size = {"height": subject.height, "width": subject.width}
    return LabelPyramid(file, **size, mpp=subject.mpp, name=subject.image.name, folder=folder)


_MAKERS: Mapping[Output, tuple[Callable[[Exports], Export], ...]] = {
    "table": (
        partial(Exports.make_table, about=PARQUET, make=_open_parquet),
        partial(Exports.make_table, about=CSV, make=_open_csv),
    ),
    "geojson": (partial(Exports.make_table, about=GEOJSON, make=_open_geojson),),
    "coco": (partial(Exports.make_table, about=COCO, make=_open_coco),),
    "label_image": (Exports.make_label_image,),
    "ome_tiff": (partial(Exports.make_labels, about=OME_TIFF, make=_open_ome_tiff),),
    "ome_zarr": (Exports.make_shards,),
}
