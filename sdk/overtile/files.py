"""The files on this machine that a dataset is made of."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from overtile.errors import LocalFileError

AnyPath = str | os.PathLike[str]
Paths = AnyPath | Iterable[AnyPath] | Mapping[str, AnyPath]

CHUNK = 1 << 20  # bytes read at once
LEAF = 16 * CHUNK  # bytes after which the state of a file's hash is kept, so that its parts can be checked one by one
ZARR = {".zarray", ".zattrs", ".zgroup", ".zmetadata"}  # hidden files that an image consists of
MOST_FILES = 40_000  # the API's limit for one version, known here so that nobody hashes for an hour to learn it


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
    """A file whose content was read once. `states`: of its hash, before every `LEAF` bytes."""

    name: str
    path: Path
    sha256: str
    bytes: int
    states: "Sequence[hashlib._Hash]" = field(default=(), compare=False, repr=False)

    def entry(self) -> dict[str, str | int]:
        """The file as the API wants it described."""
        return {"name": self.name, "sha256": self.sha256, "bytes": self.bytes}

    def state_at(self, place: int) -> "hashlib._Hash":
        """The hash of all that comes before byte `place`, a multiple of `LEAF`, to go on with."""
        return self.states[place // LEAF].copy() if place else hashlib.sha256()

    def digest_at(self, end: int) -> str:
        """The hash of all that comes before byte `end`: a multiple of `LEAF`, or the end of the file."""
        return self.sha256 if end == self.bytes else self.state_at(end).hexdigest()


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
    states = []
    try:
        with file.path.open("rb", buffering=0) as stream:
            while chunk := stream.read(
                CHUNK - size % CHUNK
            ):  # ends of chunks are ends of leaves, also after a short one
                if size % LEAF == 0:
                    states.append(digest.copy())
                digest.update(chunk)
                size += len(chunk)
                advance(len(chunk))
    except OSError as error:
        raise _unreadable(file.path, error) from error
    return HashedFile(file.name, file.path, digest.hexdigest(), size, states if len(states) > 1 else ())


def read_unchanged(file: HashedFile, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The chunks of the file, or of its bytes from `start` to `end`. The last one is held back until the hash agrees.

    So a file that is changed while it is sent breaks the transfer off, and the store never keeps bytes under the
    hash of others. Raises LocalFileError then.
    """
    end = file.bytes if end is None else end
    digest, left, held = file.state_at(start), end - start, b""
    try:
        with file.path.open("rb") as stream:
            stream.seek(start)
            while left and (chunk := stream.read(min(CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
                if held:
                    yield held
                held = chunk
            grown = end == file.bytes and stream.read(1) != b""
    except OSError as error:
        raise _unreadable(file.path, error) from error
    if grown or left or digest.hexdigest() != file.digest_at(end):
        raise LocalFileError(f"{file.path} changed while it was uploaded; upload it again once it is complete")
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
        if child.name.startswith(".") and child.name not in ZARR:
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
