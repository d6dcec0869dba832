"""The files of a dataset version, fetched when a block needs them, and what their bytes turn out to be."""

import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from services.worker.context import Context
from services.worker.staged_files import safe_place
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
        self._uses: Counter[str] = Counter()  # images that are still to be made of it
        self._locks: dict[str, threading.Lock] = {}
        self._held: dict[str, tuple[Path, ExitStack]] = {}
        self.read: dict[str, FileRead] = {}  # by file name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, stack in self._held.values():
            stack.close()

    def expect(self, names: Iterable[str]) -> None:
        """Find out where these files are, for many at once in the time of one. A name for each use of it."""
        names = list(names)
        with self._lock:
            self._uses.update(names)
        self._find(names)

    def fetch(self, names: Sequence[str]) -> dict[str, Path]:
        """Local paths of the files, good until they are released.

        Raises:
            Rejected: the bytes of a file are not those that were announced; they are removed from the store.
        """
        self._find(names)
        return {name: self._fetch(name) for name in names}

    def release(self, names: Iterable[str]) -> None:
        """One image less is to be made of these files; those that none needs any more are let go."""
        for name in names:
            with self._lock:
                self._uses[name] -= 1
                held = self._held.pop(name, None) if self._uses[name] <= 0 else None
            if held is not None:
                held[1].close()

    @contextmanager
    def lend_image(self, entry: Entry) -> Iterator[Path]:
        """The local path of an image: a file, or one of several that lie around it as they were uploaded.

        Raises as `fetch` does.
        """
        paths = self.fetch(entry.image_files)
        if not entry.parts:
            yield paths[entry.image]
            return
        with TemporaryDirectory(dir=self._context.settings.cache_dir) as folder:
            for name, path in paths.items():
                _lay(path, Path(folder) / safe_place(name, entry.name), name)
            yield Path(folder) / entry.image

    def _find(self, names: Sequence[str]) -> None:
        with self._lock:
            missing = [name for name in names if name not in self._files]
        if missing:
            found = self._context.find_files(self._job, missing)
            with self._lock:
                self._files |= found

    def _fetch(self, name: str) -> Path:
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:  # who needs the same file waits for it; others do not
            held = self._held.get(name)
            if held is None:
                self.check()
                with ExitStack() as stack:
                    found = stack.enter_context(self._context.staging.hold(self._files[name]))
                    self.read[name] = FileRead(sha256=found.sha256, etag=found.etag)
                    held = self._held[name] = found.path, stack.pop_all()
            return held[0]


def _lay(path: Path, place: Path, name: str) -> None:
    """Let a file lie at its place in a folder, too."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, place)
    except (FileExistsError, NotADirectoryError) as error:
        raise Rejected(f"{name}: it is a file and a folder of others at once; rename one and upload again") from error
