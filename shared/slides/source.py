"""Where the bytes of a file come from: a disk, or an object store that is asked for ranges."""

import io
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from shared.errors import OvertileError

Run = tuple[int, int]  # (offset, count), bytes


class Source(ABC):
    """Random access to the bytes of one file. Safe to share between threads.

    `size`: bytes of the whole.
    """

    size: int

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset` on; fewer where the file ends."""
        return self.read_many([(offset, count)])[0]

    @abstractmethod
    def read_many(self, runs: Sequence[Run]) -> list[bytes]:
        """What `read` gives for each of the runs, in as few requests as possible. All of it is held at once."""

    def map(self) -> mmap.mmap | None:
        """The whole as memory, where that costs nothing: its pages count as the process's for as long as it is kept."""
        return None

    def close(self) -> None:  # noqa: B027  # not every source holds something open
        """Give back what is held open; closing again does nothing."""


class LocalSource(Source):
    """A file on disk."""

    _number: int | None = None

    def __init__(self, path: Path) -> None:
        self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._number).st_size

    def read_many(self, runs: Sequence[Run]) -> list[bytes]:
        if self._number is None:
            raise ValueError("the file is closed")
        return [os.pread(self._number, count, offset) for offset, count in runs]

    def map(self) -> mmap.mmap | None:
        if self._number is None:
            raise ValueError("the file is closed")
        return mmap.mmap(self._number, 0, access=mmap.ACCESS_READ)

    def close(self) -> None:
        number, self._number = self._number, None
        if number is not None:
            os.close(number)

    def __del__(self) -> None:
        self.close()


class SourceFile(io.RawIOBase):
    """A source as a file with a position, for libraries that ask for one. For one thread.

    `failure`: the first outage that came up while reading. Libraries that swallow it take the file for damaged.
    """

    def __init__(self, source: Source) -> None:
        self._source, self._position = source, 0
        self.failure: OvertileError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size}[whence]
        if start + offset < 0:
            raise ValueError(f"a position of {start + offset} lies before the file")
        self._position = start + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._source.size - self._position, 0)
        count = left if size is None or size < 0 else min(size, left)
        try:
            content = self._source.read(self._position, count) if count else b""
        except OvertileError as error:
            self.failure = self.failure or error
            raise
        self._position += len(content)
        return content

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        content = self.read(len(memoryview(buffer).cast("B")))
        memoryview(buffer).cast("B")[: len(content)] = content
        return len(content)
