"""The files on this machine that a dataset is made of."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from overtile.errors import LocalFileError

AnyPath = str | os.PathLike[str]
Paths = AnyPath | Iterable[AnyPath] | Mapping[str, AnyPath]

CHUNK = 1 << 20  # bytes read at once
MOST_FILES = 10_000  # the API's limit for one version, known here so that nobody hashes for an hour to learn it


@dataclass(frozen=True)
class LocalFile:
    """A file and the name it gets in the dataset."""

    name: str
    path: Path

    @property
    def size(self) -> int:
        """Bytes, as of now. Raises LocalFileError."""
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise _unreadable(self.path, error) from error


@dataclass(frozen=True)
class HashedFile:
    """A file whose content was read once."""

    name: str
    path: Path
    sha256: str
    bytes: int

    def entry(self) -> dict[str, str | int]:
        """The file as the API wants it described."""
        return {"name": self.name, "sha256": self.sha256, "bytes": self.bytes}


def collect(paths: Paths) -> list[LocalFile]:
    """The files to upload, by name. Folders are walked, hidden files and folders in them skipped.

    Raises LocalFileError if a path is missing, two files claim one name, or nothing is left.
    """
    found: dict[str, Path] = {}
    for file in _expand(paths):
        other = found.setdefault(file.name, file.path)
        if other.resolve() != file.path.resolve():
            raise LocalFileError(
                f"{other} and {file.path} would both be called {file.name!r}: give the folder above them, "
                "or a mapping of name to path"
            )
    if not found:
        raise LocalFileError(f"no files to upload in {_shown(paths)}")
    if len(found) > MOST_FILES:
        raise LocalFileError(f"{len(found)} files: a dataset version holds at most {MOST_FILES}, make several datasets")
    return [LocalFile(name, found[name]) for name in sorted(found)]


def read_hashed(file: LocalFile, advance: Callable[[float], None]) -> HashedFile:
    """Hashes the file chunk by chunk; `advance` hears of every chunk's bytes."""
    digest, size = hashlib.sha256(), 0
    try:
        with file.path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                advance(len(chunk))
    except OSError as error:
        raise _unreadable(file.path, error) from error
    return HashedFile(file.name, file.path, digest.hexdigest(), size)


def read_unchanged(file: HashedFile) -> Iterator[bytes]:
    """The file's chunks. The last one is held back until the hash agrees.

    So a file that is changed while it is sent breaks the transfer off, and the store never keeps bytes under the
    hash of others. Raises LocalFileError then.
    """
    digest, size, held = hashlib.sha256(), 0, b""
    changed = LocalFileError(f"{file.path} changed while it was uploaded; upload it again once it is complete")
    try:
        with file.path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if size > file.bytes:
                    raise changed
                if held:
                    yield held
                held = chunk
    except OSError as error:
        raise _unreadable(file.path, error) from error
    if digest.hexdigest() != file.sha256:
        raise changed
    if held:
        yield held


def _expand(paths: Paths) -> Iterator[LocalFile]:
    if isinstance(paths, Mapping):
        for name, path in paths.items():
            yield LocalFile(name, _existing_file(Path(path)))
        return
    for given in [paths] if isinstance(paths, str | os.PathLike) else paths:
        path = Path(given)
        if path.is_dir():
            yield from _walk(path, path, frozenset())
        else:
            yield LocalFile(path.name, _existing_file(path))


def _walk(folder: Path, root: Path, above: frozenset[Path]) -> Iterator[LocalFile]:
    """Linked folders count like others, except those that lead back to a folder above."""
    here = folder.resolve()
    if here in above:
        return
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, error) from error
    for child in children:
        if child.name.startswith("."):
            continue
        if child.is_dir():
            yield from _walk(child, root, above | {here})
        else:
            yield LocalFile(child.relative_to(root).as_posix(), _existing_file(child))


def _existing_file(path: Path) -> Path:
    if not path.exists():
        raise LocalFileError(f"{path} does not exist")
    if not path.is_file():
        raise LocalFileError(f"{path} is not a file")
    return path


def _unreadable(path: Path, error: OSError) -> LocalFileError:
    return LocalFileError(f"cannot read {path}: {error.strerror or error}")


def _shown(paths: Paths) -> str:
    if isinstance(paths, str | os.PathLike):
        return str(paths)
    return ", ".join(map(str, paths)) or "an empty list"
