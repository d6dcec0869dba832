"""Memory shared with a model server on the same host, so that pixels need not travel.

A region is a file that lives in memory, as `shm_open` makes them; the server is told its name and maps it too. Its
owner holds a lock on it for as long as it uses it, so that a region nobody holds was left by a process that crashed.
Process ids would not tell: containers that share the folder count their processes each from 1.
"""

import errno
import fcntl
import logging
import mmap
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from shared.imaging.tiling import Pixels

log = logging.getLogger(__name__)

FOLDER = Path("/dev/shm")  # noqa: S108  # where shm_open looks
ROOM = 4  # times a region's size that must be free: Triton's Python backend keeps its own copies of tensors there
PREFIX = "overtile-tiles-"  # of our names, and of nobody else's


class Region:
    """`size` bytes that another process on this host can map by `name`. Mapped here until its last array is gone."""

    def __init__(self, size: int) -> None:
        """Raises OSError: the folder is missing, nearly full, or not ours to write to."""
        _check_room(size)
        self.name = f"{PREFIX}{os.getpid()}-{uuid.uuid4().hex}"
        self.size = size
        self._path = FOLDER / self.name
        descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            self._memory = _claim(descriptor, size)
        except BaseException:
            self.unlink()
            raise
        finally:
            os.close(descriptor)  # the mapping has its own, and with it the lock

    @property
    def key(self) -> str:
        """What `shm_open` is told."""
        return f"/{self.name}"

    def array(self, shape: tuple[int, ...], *, offset: int = 0) -> Pixels:
        """The bytes from `offset` on as a writable uint8 array."""
        return np.ndarray(shape, dtype=np.uint8, buffer=self._memory, offset=offset)

    def unlink(self) -> None:
        """Take the name away, so that the memory is freed when the last process lets go of it."""
        self._path.unlink(missing_ok=True)


def is_abandoned(name: str) -> bool:
    """Whether no living process holds the region of that name. Of what is not ours to judge, one may."""
    try:
        with _seize(FOLDER / name) as seized:
            return seized
    except FileNotFoundError:
        return True
    except OSError:
        return False


def remove_abandoned() -> None:
    """Unlink the regions that crashed processes left behind."""
    for path in FOLDER.glob(f"{PREFIX}*"):
        try:
            with _seize(path) as seized:
                if seized:  # and held until it is gone: the process that has just made it may be about to claim it
                    log.info("removing %s: its owner has died", path)
                    path.unlink(missing_ok=True)
        except OSError as error:
            log.debug("%s is left alone: %s", path, error)


@contextmanager
def _seize(path: Path) -> Iterator[bool]:
    """Hold the lock of a region, if nobody else does; whether that is so. Raises OSError if it is not ours to judge."""
    # Whatever else goes by the name, perhaps of another account, must neither be followed nor waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
            raise PermissionError(f"{path} is no region of this account")
        yield _lock_at_once(descriptor)
    finally:
        os.close(descriptor)


def _lock_at_once(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_room(size: int) -> None:
    free = os.statvfs(FOLDER)
    if free.f_bavail * free.f_frsize < ROOM * size:
        raise OSError(errno.ENOSPC, f"{FOLDER} has not {ROOM} times as much free; give it more, such as 1 GB")


def _claim(descriptor: int, size: int) -> mmap.mmap:
    """Lock and map the file. Its memory is taken now: a page that is not to be had later would end the process."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if os.fstat(descriptor).st_nlink == 0:
        raise FileNotFoundError("another process took the new region for an abandoned one")
    os.posix_fallocate(descriptor, 0, size)
    return mmap.mmap(descriptor, size)
