"""Images on their way through: fetched once, checked against their hash, opened once, dropped for want of room."""

import hashlib
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from shared.errors import NotFound, Rejected
from shared.imaging.normalisation import Window
from shared.slides import Limits, Slide, open_slide
from shared.storage import Storage
from shared.tables import JobImage

OPEN_SLIDES = 4  # kept open per process: the blocks of a slide come one after the other
ABANDONED_SECONDS = 3600  # since something was last written to a file on its way
LOCKS = 64  # more than threads, so that two images hardly ever share one
SUFFIX = re.compile(r"\.[a-z0-9]{1,8}$")


class Staging:
    """A folder of images, and the slides that are open. Safe to share between threads and processes."""

    def __init__(self, storage: Storage, folder: Path, *, limit: int) -> None:
        self._storage = storage
        self._images, self._parts = folder / "images", folder / "parts"
        self._limit = limit
        self._lock = threading.Lock()
        self._fetching = [threading.Lock() for _ in range(LOCKS)]
        self._open: OrderedDict[Path, Slide] = OrderedDict()
        for made in (self._images, self._parts):
            made.mkdir(parents=True, exist_ok=True)
        for modified, _, part in _stats(self._parts):
            if modified < time.time() - ABANDONED_SECONDS:  # by a process that was killed
                part.unlink(missing_ok=True)

    def open(self, image: JobImage) -> Slide:
        """The image, open. Raises Rejected if its bytes are not those that were announced, or are no image.

        A slide that leaves the list of open ones is closed when the last thread lets go of it.
        """
        path = self._images / _file_name(image)
        with self._lock_of(path):  # one fetches an image, while others may fetch or read other ones
            slide = self._open.get(path) if path.exists() else None  # another process may have removed it
            slide = slide or self._open_staged(image, path)
            with suppress(FileNotFoundError):
                os.utime(path)  # wanted now: not the next to be removed
            with self._lock:
                self._open[path] = slide
                self._open.move_to_end(path)
                while len(self._open) > OPEN_SLIDES:
                    self._open.popitem(last=False)
            return slide

    @contextmanager
    def borrow(self, image: JobImage, *, limits: Limits) -> Iterator[Slide]:
        """The image, open within the `with` and forgotten afterwards: for small ones, that are looked at once.

        Raises as `open` does, and TooLarge for one beyond the limits, before it is decoded.
        """
        path = self._parts / f"{uuid4().hex}{_suffix(image)}"
        try:
            self._fetch(image, path)
            with open_slide(path, name=image.name, limits=limits) as slide:
                yield slide
        finally:
            path.unlink(missing_ok=True)

    def _lock_of(self, path: Path) -> threading.Lock:
        """One of a fixed number of locks, always the same for an image."""
        return self._fetching[hash(path) % len(self._fetching)]

    def _open_staged(self, image: JobImage, path: Path) -> Slide:
        if not path.exists():
            self._make_room(image.bytes)
            self._fetch(image, path)
        window = image.facts.get("window")
        return open_slide(path, name=image.name, window=Window(*window) if window else None)

    def _fetch(self, image: JobImage, path: Path) -> None:
        part = self._parts / uuid4().hex
        try:
            if self._storage.get_file(image.key, part) != image.sha256:
                self._storage.delete(image.key)  # or the next upload would be told that the bytes are there already
                raise Rejected(
                    f"{image.name}: the stored bytes do not have the announced sha256; upload the file again"
                )
            part.replace(path)
        except NotFound as error:
            raise Rejected(
                f"{image.name}: its bytes are not in the object store any more; upload the file again"
            ) from error
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        """Remove the images that were not wanted for the longest time, but none that is open: some readers reopen."""
        with self._lock:
            kept = set(self._open)
        files = sorted(_stats(self._images))
        size = sum(taken for _, taken, _ in files)
        for _, taken, path in files:
            if size + needed <= self._limit:
                return
            if path not in kept:
                path.unlink(missing_ok=True)
                size -= taken


def _file_name(image: JobImage) -> str:
    """From the key, which holds the dataset: no workspace ever meets another's copy, whatever hash it announces.

    The suffix is a hint that some slide formats need; nothing else of the user's text gets into the name.
    """
    return hashlib.sha256(image.key.encode()).hexdigest() + _suffix(image)


def _suffix(image: JobImage) -> str:
    found = SUFFIX.search(image.name.lower())
    return found.group() if found else ""


def _stats(folder: Path) -> list[tuple[float, int, Path]]:
    """When each file was last wanted or written, its size in bytes, and the file."""
    stats = []
    for path in folder.iterdir():
        try:
            stat = path.stat()
        except FileNotFoundError:  # another process was faster
            continue
        stats.append((stat.st_mtime, stat.st_size, path))
    return stats
