"""One artifact, from the store to a file that is whole or absent."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from uuid import uuid4

from overtile.errors import ChecksumMismatch, LocalFileError, StoreError, UnsafeName
from overtile.files import CHUNK
from overtile.progress import Meter, Part
from overtile.shapes import Artifact
from overtile.transport import Transport


class Download:
    """Fetches artifacts into one folder. Safe to call from several threads."""

    def __init__(
        self, transport: Transport, folder: Path, bar: Meter, *, renew: Callable[[Artifact], Artifact]
    ) -> None:
        self._transport = transport
        self._folder = folder
        self._bar = bar
        self._renew = renew

    def fetch(self, artifact: Artifact) -> Path:
        """The path of the file, fetched unless it is already there with the right content."""
        target = place(artifact.name, self._folder)
        self._bar.expect(artifact.bytes)
        try:
            if _holds(target, artifact):
                self._bar.advance(artifact.bytes)
                return target
            target.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(artifact, target)
        except OSError as error:
            raise LocalFileError(f"cannot write {target}: {error.strerror or error}") from error
        return target

    def _fetch(self, artifact: Artifact, target: Path) -> None:
        part = self._bar.part()

        def keep(chunks: Iterator[bytes]) -> None:
            part.restart()
            _write_verified(chunks, target, artifact, part)

        try:
            self._transport.fetch(artifact.url, keep)
        except StoreError as error:
            if not error.expired:
                raise
            self._transport.fetch(self._renew(artifact).url, keep)


def place(name: str, folder: Path) -> Path:
    """Where an artifact of that name belongs. Names come from a server: raises UnsafeName if one leaves the folder."""
    parts = PurePosixPath(name).parts
    outside = not parts or ".." in parts or PurePosixPath(name).is_absolute()
    windows = "\\" in name or PureWindowsPath(name).drive
    if outside or windows or not name.isprintable():
        raise UnsafeName(f"the artifact's name {name!r} is no path inside {folder}")
    target = folder.joinpath(*parts)
    if not target.resolve().is_relative_to(folder.resolve()):  # a link inside the folder may lead out, too
        raise UnsafeName(f"the artifact's name {name!r} leads through a link out of {folder}")
    return target


def _holds(target: Path, artifact: Artifact) -> bool:
    if not target.is_file() or target.stat().st_size != artifact.bytes:
        return False
    with target.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == artifact.sha256


def _write_verified(chunks: Iterator[bytes], target: Path, artifact: Artifact, part: Part) -> None:
    """Writes beside the target and renames at the end, so that no half file ever bears the name."""
    digest, size = hashlib.sha256(), 0
    draft = target.with_name(f".overtile-{uuid4().hex}.part")
    try:
        with draft.open("xb", buffering=CHUNK) as stream:
            for chunk in chunks:
                size += len(chunk)
                if size > artifact.bytes:
                    break  # not what was announced, however long it goes on
                digest.update(chunk)
                stream.write(chunk)
                part.advance(len(chunk))
        if size != artifact.bytes or digest.hexdigest() != artifact.sha256:
            raise ChecksumMismatch(f"{artifact.name}: the store sent other bytes than the platform announced")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
