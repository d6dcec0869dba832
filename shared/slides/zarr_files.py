"""The files of a Zarr: of a folder or a ZIP archive, read with bounds and never from outside of it."""

import os
import stat
import struct
import zipfile
from pathlib import Path, PurePosixPath
from typing import Protocol

DIRECTORY = 2**26  # bytes of a ZIP's list of files: some 600,000 of them
TAIL = 2**16 + 200  # bytes at its end within which that list is announced
END, END64 = b"PK\5\6", b"PK\6\6"
DAMAGE = (zipfile.BadZipFile, RuntimeError, struct.error, ValueError, OSError, EOFError)


class ZarrFiles(Protocol):
    """Files by their keys: paths with "/" between their parts. Safe to share between threads."""

    def size(self, key: str) -> int | None:
        """Bytes of a file, None if there is none."""
        ...

    def read(self, key: str, offset: int, count: int) -> bytes:
        """`count` bytes of a file that is there, fewer at its end."""
        ...

    def count(self, prefix: str, enough: int) -> int:
        """How many files lie below a folder; counting may stop at `enough`."""
        ...

    def close(self) -> None:
        """Give back what is held open."""
        ...


def is_safe(path: str) -> bool:
    """Whether a path that metadata name stays inside: relative, without steps upwards."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\\" not in path and "\0" not in path


class FolderFiles:
    """A folder on disk. Links that lead out of it, pipes and devices are refused."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._resolved = folder, folder.resolve()

    def size(self, key: str) -> int | None:
        try:
            status = self._inside(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISDIR(status.st_mode):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{key} is no file")
        return status.st_size

    def read(self, key: str, offset: int, count: int) -> bytes:
        descriptor = os.open(self._inside(key), os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.pread(descriptor, min(count, max(os.fstat(descriptor).st_size - offset, 0)), offset)
        finally:
            os.close(descriptor)

    def count(self, prefix: str, enough: int) -> int:
        found = 0
        for _, _, names in os.walk(self._folder / prefix):
            found += len(names)
            if found >= enough:
                break
        return found

    def close(self) -> None:
        pass

    def _inside(self, key: str) -> Path:
        path = (self._folder / key).resolve()
        if not path.is_relative_to(self._resolved):
            raise ValueError(f"{key} is a link that leads out of the folder")
        return path


class ZipFiles:
    """A ZIP archive, the Zarr at its top or in a folder of it."""

    def __init__(self, path: Path) -> None:
        _check_directory(path)
        self._zip = zipfile.ZipFile(path)
        self._sizes = {entry.filename: entry.file_size for entry in self._zip.infolist()}
        roots = [name for name in self._sizes if PurePosixPath(name).name in ("zarr.json", ".zattrs", ".zgroup")]
        top = min(roots, key=lambda name: name.count("/"), default="")
        self._root = top.rpartition("/")[0] + "/" if "/" in top else ""

    def size(self, key: str) -> int | None:
        return self._sizes.get(self._root + key)

    def read(self, key: str, offset: int, count: int) -> bytes:
        with self._zip.open(self._root + key) as file:
            file.seek(offset)
            return file.read(count)

    def count(self, prefix: str, enough: int) -> int:  # noqa: ARG002  # all are known
        return sum(name.startswith(f"{self._root}{prefix}/") for name in self._sizes)

    def close(self) -> None:
        self._zip.close()


def _check_directory(path: Path) -> None:
    """Raise ValueError for a list of files too long to be held."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - TAIL, 0))
        tail = file.read(TAIL)
    end, end64 = tail.rfind(END), tail.rfind(END64)
    if end < 0:
        raise ValueError("the list of its files is missing")
    size = struct.unpack_from("<Q", tail, end64 + 40)[0] if end64 >= 0 else struct.unpack_from("<I", tail, end + 12)[0]
    if size > DIRECTORY:
        raise ValueError("it lists too many files; send it as a folder")
