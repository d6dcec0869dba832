"""Images on their way through: fetched once, checked against their hash, opened once, dropped when room is needed."""

import logging
import os
import re
import threading
from collections import OrderedDict
from pathlib import Path
from uuid import uuid4

from shared.errors import NotFound, Rejected
from shared.imaging.normalisation import Window
from shared.slides import Slide, open_slide
from shared.storage import Storage
from shared.tables import JobImage

log = logging.getLogger(__name__)

OPEN_SLIDES = 4  # kept open per process: the blocks of a slide come one after the other
LOCKS = 64  # more than threads, so that two images hardly ever share one
SUFFIX = re.compile(r"\.[a-z0-9]{1,8}$")


class Staging:
    """A folder of images by hash, and the slides that are open. Safe to share between threads and processes."""

    def __init__(self, storage: Storage, folder: Path, *, limit: int) -> None:
        self._storage = storage
        self._folder = folder
        self._limit = limit
        self._lock = threading.Lock()
        self._fetching = [threading.Lock() for _ in range(LOCKS)]
        self._open: OrderedDict[str, Slide] = OrderedDict()
        folder.mkdir(parents=True, exist_ok=True)

    def open(self, image: JobImage) -> Slide:
        """The image, open. Raises Rejected if its bytes are not those that were announced, or are no image.

        A slide that leaves the list of open ones is closed when the last thread lets go of it.
        """
        with self._lock_of(image):  # one fetches an image, while others may fetch or read other ones
            slide = self._open.get(image.sha256) or self._open_staged(image)
            with self._lock:
                self._open[image.sha256] = slide
                self._open.move_to_end(image.sha256)
                while len(self._open) > OPEN_SLIDES:
                    self._open.popitem(last=False)
            return slide

    def _lock_of(self, image: JobImage) -> threading.Lock:
        """One of a fixed number of locks, always the same for an image."""
        return self._fetching[int(image.sha256[:8], 16) % len(self._fetching)]

    def _open_staged(self, image: JobImage) -> Slide:
        window = image.facts.get("window")
        return open_slide(self._fetch(image), name=image.name, window=Window(*window) if window else None)

    def _fetch(self, image: JobImage) -> Path:
        # The suffix is a hint that some slide formats need; nothing else of the user's text gets into the path.
        suffix = SUFFIX.search(image.name.lower())
        path = self._folder / (image.sha256 + (suffix.group() if suffix else ""))
        if path.exists():
            os.utime(path)
            return path
        self._make_room(image.bytes)
        part = self._folder / f"{uuid4().hex}.part"
        try:
            if self._storage.get_file(image.key, part) != image.sha256:
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
        return path

    def _make_room(self, needed: int) -> None:
        """Remove the files that were not wanted for the longest time. Open ones stay readable until they are closed."""
        files = sorted(((stat.st_mtime, stat.st_size, path) for path, stat in _stats(self._folder)), key=lambda f: f[0])
        size = sum(taken for _, taken, _ in files)
        for _, taken, path in files:
            if size + needed <= self._limit:
                return
            path.unlink(missing_ok=True)
            size -= taken


def _stats(folder: Path) -> list[tuple[Path, os.stat_result]]:
    stats = []
    for path in folder.iterdir():
        try:
            stats.append((path, path.stat()))
        except FileNotFoundError:  # another process was faster
            continue
    return stats
