"""Images on their way through: fetched once, or read where they lie; opened once; dropped for want of room."""

import hashlib
import re
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.worker.staged_files import StagedFiles, Wanted, safe_place
from shared.domain.fetching import say_gone
from shared.errors import Conflict, NotFound, Unavailable
from shared.slides import BlockCache, Limits, NotByRanges, RangedSource, Slide, open_slide
from shared.slides.windows import restore
from shared.storage import Storage
from shared.tables import DatasetFile, JobImage

OPEN_SLIDES = 4  # kept open per process: the blocks of a slide come one after the other
LOCKS = 64  # more than threads, so that two images hardly ever share one
RANGED_BYTES = 16_000_000  # of a file; a smaller one is fetched whole in the time of a few requests
SUFFIX = re.compile(r"\.[a-z0-9]{1,8}$")


@dataclass(frozen=True)
class _Opened:
    """An open slide. `ranged`: read where it lies, in the store."""

    slide: Slide
    ranged: bool


@dataclass(frozen=True)
class Held:
    """A file on disk whose bytes are those that were announced."""

    path: Path
    sha256: str
    etag: str | None  # the store's; None of a small one


class Staging:
    """A folder of images, and the slides that are open. Safe to share between threads and processes.

    `limit`: bytes in the folder. `ranged_bytes`: from which size on TIFFs are not fetched but read where they lie.
    """

    def __init__(self, storage: Storage, folder: Path, *, limit: int, ranged_bytes: int = RANGED_BYTES) -> None:
        self._storage, self._ranged_bytes = storage, ranged_bytes
        self._files = StagedFiles(storage, folder, limit=limit)
        self._blocks = BlockCache()
        self._lock = threading.Lock()
        self._opening = [threading.Lock() for _ in range(LOCKS)]
        self._open: OrderedDict[str, _Opened] = OrderedDict()
        self._replaced = set[str]()  # what was changed in the store while it was read there: to be fetched whole

    def open(self, image: JobImage) -> Slide:
        """The image, open. Raises Missing if its bytes are not those that were announced, Rejected if it is none.

        A slide that leaves the list of open ones is closed when the last thread lets go of it.
        """
        name = _cache_name(image)
        with self._opening[hash(name) % LOCKS]:  # one opens an image, while others may open or read other ones
            opened = self._find(name) or self._open_by_ranges(image, name) or self._open_staged(image, name)
            with self._lock:
                self._open[name] = opened
                self._open.move_to_end(name)
                while len(self._open) > OPEN_SLIDES:
                    self._open.popitem(last=False)
            return opened.slide

    @contextmanager
    def borrow(self, image: JobImage, *, limits: Limits) -> Iterator[Slide]:
        """The image, open within the `with` and forgotten afterwards: for small ones, that are looked at once.

        Raises as `open` does, and TooLarge for one beyond the limits, before it is decoded.
        """
        with ExitStack() as held:
            path = held.enter_context(self._files.borrow(wanted_of(image), _suffix_of(image.name), image=image.name))
            yield held.enter_context(open_slide(path / _inside(image), name=image.name, limits=limits))

    @contextmanager
    def hold(self, file: DatasetFile) -> Iterator[Held]:
        """A file of a dataset, whole, for the time of the `with`; a large one is kept for whoever asks next.

        Raises as `open` does; the hash of one that is registered in place is found here.
        """
        stored = file.object
        # Only files that are read where they lie later need to be known by their tag, and asking for it takes time.
        listed = self._storage.look(stored.key, bucket=stored.bucket) if file.bytes >= self._ranged_bytes else None
        wanted = [Wanted(".", stored.bucket, stored.key, stored.sha256, stored.bytes, stored.etag)]
        suffix = _suffix_of(file.name)
        with ExitStack() as held:
            if file.bytes < self._ranged_bytes:
                path = held.enter_context(self._files.borrow(wanted, suffix, image=file.name))
            else:
                name = _name([(stored.bucket, stored.key, stored.sha256 or stored.etag)], suffix)
                path = held.enter_context(self._files.hold(name, wanted, image=file.name))
            yield Held(path, stored.sha256 or _hash(path), listed.etag if listed else None)

    def _find(self, name: str) -> _Opened | None:
        """The slide that is open already, unless its file was taken away or changed."""
        with self._lock:
            opened = self._open.get(name)
        if opened is None or (opened.ranged and name in self._replaced):
            return None
        return opened if opened.ranged or self._files.touch(name) else None

    def _open_by_ranges(self, image: JobImage, name: str) -> _Opened | None:
        """A large TIFF whose bytes are known to be right; None for any other image, and for one that lies here."""
        ranged = image.verified and not image.parts and image.bytes >= self._ranged_bytes
        if not ranged or name in self._replaced or self._files.path(name).exists():
            return None

        def fetch(offset: int, count: int) -> bytes:
            return self._read_range(image, name, offset, count)

        source = RangedSource(fetch, image.bytes, cache=self._blocks, name=(name, image.etag))
        try:
            slide = open_slide(source, name=image.name, window=restore(image.facts.get("window")))
        except NotByRanges:
            return None
        except Unavailable:
            if name in self._replaced:
                return None  # whether what lies there now has the same hash, only fetching it tells
            raise
        return _Opened(slide, ranged=True)

    def _read_range(self, image: JobImage, name: str, offset: int, count: int) -> bytes:
        try:
            return self._storage.read_range(image.key, offset, count, bucket=image.bucket, etag=image.etag)
        except NotFound as error:
            raise say_gone(image, image.name) from error
        except Conflict as error:
            self._replaced.add(name)
            raise Unavailable(f"{image.name}: the file was replaced in the object store while it was read") from error

    def _open_staged(self, image: JobImage, name: str) -> _Opened:
        with ExitStack() as held:
            path = held.enter_context(self._files.hold(name, wanted_of(image), image=image.name))
            slide = open_slide(path / _inside(image), name=image.name, window=restore(image.facts.get("window")))
            if not slide.outlives_file:
                weakref.finalize(slide, held.pop_all().close)  # its file stays as long as somebody has the slide
        return _Opened(slide, ranged=False)


def wanted_of(image: JobImage) -> list[Wanted]:
    """The files of an image. Those of an image of several parts lie as they do in the dataset."""
    if not image.parts:
        return [Wanted(".", image.bucket, image.key, image.sha256, image.bytes)]
    parts = [_part(part) for part in image.parts]
    if _is_folder(image):
        return parts
    return [Wanted(image.name, image.bucket, image.key, image.sha256, image.bytes), *parts]


def _part(part: dict[str, Any]) -> Wanted:
    return Wanted(part["name"], part.get("bucket"), part["key"], part["sha256"], part["bytes"])


def _is_folder(image: JobImage) -> bool:
    """Whether the image is a folder, and all its files are parts; else it is a file, and the parts belong to it."""
    return all(part["name"].startswith(f"{image.name}/") for part in image.parts)


def _inside(image: JobImage) -> Path:
    """What is to be opened of what was fetched."""
    return Path(safe_place(image.name, image.name)) if image.parts else Path()


def _cache_name(image: JobImage) -> str:
    """From the keys, which hold the workspace: none ever meets another's copy, whatever hash it announces.

    The suffix is a hint that some slide formats need; nothing else of the user's text gets into the name.
    """
    places = [(image.bucket, image.key, image.sha256), *((part["name"], part["key"]) for part in image.parts or ())]
    return _name(places, "" if image.parts else _suffix_of(image.name))


def _name(places: Sequence[tuple[object, ...]], suffix: str) -> str:
    return hashlib.sha256(repr(places).encode()).hexdigest() + suffix


def _suffix_of(name: str) -> str:
    found = SUFFIX.search(name.lower())
    return found.group() if found else ""


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
