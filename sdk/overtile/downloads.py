"""Files from the store: what jobs made, or what a dataset version consists of; each whole or absent."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol
from uuid import uuid4

from overtile.errors import ChecksumMismatch, LocalFileError, StoreError, UnsafeName
from overtile.files import CHUNK
from overtile.progress import Meter, Part
from overtile.transport import Transport


class Remote(Protocol):
    """Something in the store. `name` is chosen by the server or by other users: never a path to trust."""

    @property
    def name(self) -> str:
        """Relative path."""

    @property
    def bytes(self) -> int:
        """Its size."""

    @property
    def sha256(self) -> str | None:
        """None of a file that nobody has read yet: then its size counts alone."""

    @property
    def url(self) -> str:
        """Where to fetch it, for a limited time."""


class Download:
    """Fetches files into one folder. Safe to call from several threads. `renew`: the same with a URL that works."""

    def __init__(self, transport: Transport, folder: Path, bar: Meter, *, renew: Callable[[Remote], Remote]) -> None:
        self._transport = transport
        self._folder = folder
        self._bar = bar
        self._renew = renew

    def fetch(self, remote: Remote) -> Path:
        """The path of the file, fetched unless it is already there with the right content."""
        target = place(remote.name, self._folder)
        self._bar.expect(remote.bytes)
        try:
            if _holds(target, remote):
                self._bar.advance(remote.bytes)
                return target
            target.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(remote, target)
        except OSError as error:
            raise LocalFileError(f"cannot write {target}: {error.strerror or error}") from error
        return target

    def _fetch(self, remote: Remote, target: Path) -> None:
        part = self._bar.part()

        def keep(chunks: Iterator[bytes]) -> None:
            part.restart()
            _write_verified(chunks, target, remote, part)

        try:
            self._transport.fetch(remote.url, keep)
        except StoreError as error:
            if not error.expired:
                raise
            self._transport.fetch(self._renew(remote).url, keep)


def place(name: str, folder: Path) -> Path:
    """Where a file of that name belongs. Names come from a server: raises UnsafeName if one leaves the folder."""
    parts = PurePosixPath(name).parts
    outside = not parts or ".." in parts or PurePosixPath(name).is_absolute()
    windows = "\\" in name or PureWindowsPath(name).drive
    if outside or windows or not name.isprintable():
        raise UnsafeName(f"the name {name!r} is no path inside {folder}")
    target = folder.joinpath(*parts)
    if not target.resolve().is_relative_to(folder.resolve()):  # a link inside the folder may lead out, too
        raise UnsafeName(f"the name {name!r} leads through a link out of {folder}")
    return target


def _holds(target: Path, remote: Remote) -> bool:
    if not target.is_file() or target.stat().st_size != remote.bytes or remote.sha256 is None:
        return False
    with target.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == remote.sha256


def _write_verified(chunks: Iterator[bytes], target: Path, remote: Remote, part: Part) -> None:
    """Writes beside the target and renames at the end, so that no half file ever bears the name."""
    digest, size = hashlib.sha256(), 0
    draft = target.with_name(f".overtile-{uuid4().hex}.part")
    try:
        with draft.open("xb", buffering=CHUNK) as stream:
            for chunk in chunks:
                size += len(chunk)
                if size > remote.bytes:
                    break  # not what was announced, however long it goes on
                digest.update(chunk)
                stream.write(chunk)
                part.advance(len(chunk))
        if size != remote.bytes or remote.sha256 not in (None, digest.hexdigest()):
            raise ChecksumMismatch(f"{remote.name}: the store sent other bytes than the platform announced")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
