"""Memory shared with a model server on the same host, so that pixels need not travel.

A region is a file that lives in memory, as `shm_open` makes them; the server is told its name and maps it too. Its
owner holds a lock on it for as long as it uses it, so that a region nobody holds was left by a process that crashed.
Process ids would not tell: containers that share the folder count their processes each from 1.
"""

import fcntl
import logging
import mmap
import os
import uuid
from pathlib import Path

import numpy as np

from shared.imaging.tiling import Pixels

log = logging.getLogger(__name__)

FOLDER = Path("/dev/shm")  # noqa: S108  # where shm_open looks
PREFIX = "overtile-tiles-"  # of our names, and of nobody else's


class Region:
    """`size` bytes that another process on this host can map by `name`. Mapped here until its last array is gone."""

    def __init__(self, size: int) -> None:
        """Raises OSError: the folder is missing, full, or not ours to write to."""
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
    """Whether no living process holds the region of that name."""
    try:
        descriptor = os.open(FOLDER / name, os.O_RDONLY)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False  # another account's: not ours to judge
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def remove_abandoned() -> None:
    """Unlink the regions that crashed processes left behind."""
    for path in FOLDER.glob(f"{PREFIX}*"):
        if is_abandoned(path.name):
            log.info("removing %s: its owner has died", path)
            path.unlink(missing_ok=True)


def _claim(descriptor: int, size: int) -> mmap.mmap:
    """Lock and map the file. Its memory is taken now: a page that is not to be had later would end the process."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if os.fstat(descriptor).st_nlink == 0:
        raise FileNotFoundError("another process took the new region for an abandoned one")
    os.posix_fallocate(descriptor, 0, size)
    return mmap.mmap(descriptor, size)
