"""A folder of files from the object store, as large as it may be, shared by all worker processes of a machine.

A file, or the folder of an image of several files, appears under its name when it is complete and its hash was
compared, never before. What was not wanted for the longest time goes when there is no room; what somebody holds stays.
"""

import errno
import fcntl
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import uuid4

from shared.domain.fetching import fetch
from shared.errors import Rejected, Unavailable
from shared.storage import Storage

ABANDONED_SECONDS = 3600  # since something was last written to a file on its way
LOCKS = 64  # more than threads, so that two images hardly ever share one
FULL = {errno.ENOSPC, errno.EDQUOT}
TOGETHER = 8  # files of an image that are fetched at once: most are small, the store's answer takes longer than they
NAME_BYTES, DEPTH = 255, 32  # of a file's name, and of folders in one another: what file systems take


@dataclass(frozen=True)
class Wanted:
    """A file to fetch. `place`: its path in the image's folder; "." for an image that is one file."""

    place: str
    bucket: str | None
    key: str
    sha256: str | None  # unknown of a foreign file that nobody has read
    bytes: int
    etag: str | None = None  # by which a foreign file was registered


class StagedFiles:
    """Safe to share between threads and processes. `limit`: bytes; one image larger than that is taken, alone."""

    def __init__(self, storage: Storage, folder: Path, *, limit: int) -> None:
        self._storage, self._folder, self._limit = storage, folder, limit
        self._images, self._parts, self._locks = folder / "images", folder / "parts", folder / "locks"
        for made in (self._images, self._parts, self._locks):
            made.mkdir(parents=True, exist_ok=True)
        for part in self._parts.iterdir():
            if _last_written(part) < time.time() - ABANDONED_SECONDS:  # by a process that was killed
                _remove(part)

    def path(self, name: str) -> Path:
        """Where the image of that name lies, if it does."""
        return self._images / name

    @contextmanager
    def hold(self, name: str, wanted: Sequence[Wanted], *, image: str) -> Iterator[Path]:
        """The image's file or folder, fetched if need be; it is not removed before the end of the `with`.

        `image`: what the user calls it.

        Raises:
            Missing: their bytes are gone, or not those that were announced.
            Unavailable: the store does not answer, or the disk is full, whatever is removed from it.
        """
        path = self.path(name)
        held = self._take(path)
        if held is None:
            with self._alone(path):  # another process may be fetching it
                held = self._take(path)
                while held is None:
                    self._make_room(sum(each.bytes for each in wanted))
                    self._fetch(wanted, path, image)
                    held = self._take(path)
        try:
            self.touch(name)
            yield path
        finally:
            os.close(held)

    def _fetch(self, wanted: Sequence[Wanted], path: Path, image: str) -> None:
        """Write files to `path`, all or none."""
        size = sum(each.bytes for each in wanted)
        if self._free() < size:
            self._empty(size, image)
        try:
            self._write(wanted, path, image)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._empty(size, image)
            try:
                self._write(wanted, path, image)
            except OSError as again:
                raise self._full(size, image) if again.errno in FULL else again from error

    @contextmanager
    def borrow(self, wanted: Sequence[Wanted], suffix: str, *, image: str) -> Iterator[Path]:
        """The image's file or folder, for the time of the `with` only, and not among those that are kept."""
        path = self._new(suffix)
        try:
            self._fetch(wanted, path, image)
            yield path
        finally:
            _remove(path)

    def touch(self, name: str) -> bool:
        """Note that the image is wanted now, so that it is not the next to be removed; whether it is there."""
        try:
            os.utime(self.path(name))
        except FileNotFoundError:
            return False
        return True

    def _new(self, suffix: str) -> Path:
        """A name that nobody uses."""
        return self._parts / f"{uuid4().hex}{suffix}"

    def _write(self, wanted: Sequence[Wanted], path: Path, image: str) -> None:
        part = self._new("")
        try:
            places = [(each, part / safe_place(each.place, image)) for each in wanted]
            for folder in {place.parent for _, place in places if place != part}:
                folder.mkdir(parents=True, exist_ok=True)
            if len(places) == 1:
                self._get(places[0], image)
            else:
                with ThreadPoolExecutor(TOGETHER) as pool:
                    list(pool.map(lambda pair: self._get(pair, image), places))
            _publish(part, path)
        finally:
            _remove(part)

    def _get(self, pair: tuple[Wanted, Path], image: str) -> None:
        wanted, place = pair
        fetch(self._storage, wanted, place, name=image if wanted.place == "." else f"{image}: {wanted.place}")

    def _take(self, path: Path) -> int | None:
        """Keep others from removing it, for as long as the number given is open; None if it is not there."""
        try:
            number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        fcntl.flock(number, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(number), path.stat()):
                return number
        os.close(number)  # removed in between
        return None

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """No other thread or process fetches the same meanwhile."""
        folder = self._locks / str(int(path.stem[:8], 16) % LOCKS)
        folder.mkdir(exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _make_room(self, needed: int) -> None:
        """Remove images until so many bytes more are within the limit, or nothing is left to remove."""
        size = sum(taken for _, taken, _ in _stats(self._images))
        self._remove_oldest(lambda removed: size - removed + needed <= self._limit)

    def _empty(self, needed: int, image: str) -> None:
        """Remove images until the disk has so many bytes free. Raises Unavailable if it never has."""
        self._remove_oldest(lambda _: self._free() >= needed)
        if self._free() < needed:
            raise self._full(needed, image)

    def _remove_oldest(self, enough: Callable[[int], bool]) -> None:
        removed = 0
        for _, taken, path in sorted(_stats(self._images)):
            if enough(removed):
                return
            removed += taken if self._let_go(path) else 0

    def _let_go(self, path: Path) -> bool:
        """Remove an image unless somebody holds it; whether it was removed."""
        with suppress(FileNotFoundError):
            number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                gone = self._new("")
                path.rename(gone)  # first, so that nobody sees half a folder
                _remove(gone)
            except BlockingIOError:
                return False
            finally:
                os.close(number)
        return True

    def _free(self) -> int:
        return shutil.disk_usage(self._folder).free

    def _full(self, needed: int, image: str) -> Unavailable:
        return Unavailable(
            f"{image}: {needed} bytes are needed, but the disk of the folder {self._folder} has {self._free()} free; "
            "make room there, or give the worker another folder"
        )


def safe_place(place: str, image: str) -> PurePosixPath:
    """The path of a file within its image's folder. Raises Rejected for one that leads out of it, or is no path."""
    path = PurePosixPath(place)
    sound = (
        not path.is_absolute()
        and ".." not in path.parts
        and "\0" not in place
        and len(path.parts) <= DEPTH
        and all(len(each.encode()) <= NAME_BYTES for each in path.parts)
    )
    if not sound:
        raise Rejected(f"{image}: {place!r} is no name for a file of an image; rename it and upload again")
    return path


def _publish(part: Path, path: Path) -> None:
    """Give what is complete its name; another process that was faster has written the same."""
    try:
        part.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _stats(folder: Path) -> list[tuple[float, int, Path]]:
    """When each file or folder was last wanted or written, its size in bytes, and its path."""
    stats = []
    for path in folder.iterdir():
        try:
            stat = path.stat()
            stats.append((stat.st_mtime, _size(path) if path.is_dir() else stat.st_size, path))
        except FileNotFoundError:  # another process was faster
            continue
    return stats


def _last_written(part: Path) -> float:
    """Seconds since the epoch; infinite for what has just gone."""
    try:
        return max(path.stat().st_mtime for path in (part, *part.rglob("*")))
    except FileNotFoundError:
        return math.inf


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
