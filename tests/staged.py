"""A store whose answers are counted, and a disk that may be full."""

import errno
from pathlib import Path
from typing import Any, cast

from services.worker.staging import Staging
from shared.storage import Storage


class CountingStorage:
    """A storage that notes which ranges it was asked for, and may be told to fail."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.ranges: list[int] = []  # bytes of each
        self.files = 0
        self.full = 0  # how many more times the disk has no room

    def get_file(self, key: str, path: Path, **where: Any) -> str:
        self.files += 1
        if self.full:
            self.full -= 1
            path.write_bytes(b"the beginning")
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._storage.get_file(key, path, **where)

    def read_range(self, key: str, offset: int, count: int, **where: Any) -> bytes:
        self.ranges.append(count)
        return self._storage.read_range(key, offset, count, **where)

    def delete(self, key: str) -> None:
        self._storage.delete(key)


def staging_of(counting: CountingStorage, folder: Path, *, limit: int = 10**9) -> Staging:
    """Reads all by ranges that can be."""
    return Staging(cast("Storage", counting), folder, limit=limit, ranged_bytes=0)
