"""The files of a dataset version, fetched when a block needs them, and what their bytes turn out to be."""

import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from services.worker.context import Context
from services.worker.stages.findings import FileRead
from shared.errors import Rejected
from shared.execution import Work
from shared.layouts import Entry
from shared.tables import DatasetFile


class VersionFiles:
    """Fetches each file once, however many images of a block are in it. Safe to share between threads."""

    def __init__(self, context: Context, work: Work) -> None:
        self._context, self._job, self.check = context, work.claim.job, work.check
        self._lock = threading.Lock()
        self._files: dict[str, DatasetFile] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._held: dict[str, Path] = {}
        self._stack = ExitStack()
        self.read: dict[str, FileRead] = {}  # by file name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def expect(self, names: Iterable[str]) -> None:
        """Find out where these files are: for many at once in the time of one."""
        with self._lock:
            missing = [name for name in names if name not in self._files]
        if missing:
            found = self._context.find_files(self._job, missing)
            with self._lock:
                self._files |= found

    def fetch(self, names: Sequence[str]) -> dict[str, Path]:
        """Local paths of the files, good until this is closed.

        Raises:
            Rejected: the bytes of a file are not those that were announced; they are removed from the store.
        """
        self.expect(names)
        return {name: self._fetch(name) for name in names}

    def fetch_image(self, entry: Entry) -> Path:
        """The local path of an image: a file, or one of several that lie around it as they were uploaded.

        Raises as `fetch` does.
        """
        paths = self.fetch(entry.image_files)
        if not entry.parts:
            return paths[entry.image]
        with self._lock:
            folder = Path(self._stack.enter_context(TemporaryDirectory(dir=self._context.settings.cache_dir)))
        for name, path in paths.items():
            place = folder / name
            if not place.resolve().is_relative_to(folder.resolve()):  # names are checked when they are sealed; again
                raise Rejected(f"{name}: the name leads out of the dataset; rename it and upload it again")
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place)
        return folder / entry.image

    def _fetch(self, name: str) -> Path:
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:  # who needs the same file waits for it; others do not
            if name not in self._held:
                self.check()
                held = self._stack.enter_context(self._context.staging.hold(self._files[name]))
                self._held[name], self.read[name] = held.path, FileRead(sha256=held.sha256, etag=held.etag)
            return self._held[name]
