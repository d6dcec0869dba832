"""Bytes from the store, if they are those that were announced: one rule for whoever reads files of datasets."""

from pathlib import Path
from typing import Protocol

from shared.errors import Conflict, Missing, NotFound
from shared.storage import Storage


class Fetchable(Protocol):
    """Where an object is, and what it must be."""

    @property
    def bucket(self) -> str | None:
        """A lab's own; None: the platform's."""

    @property
    def key(self) -> str:
        """In the bucket."""

    @property
    def sha256(self) -> str | None:
        """None of a foreign object that nobody has read."""

    @property
    def bytes(self) -> int:
        """As announced: no more are fetched."""

    @property
    def etag(self) -> str | None:
        """By which a foreign object was registered."""


def fetch(storage: Storage, wanted: Fetchable, path: Path, *, name: str) -> str:
    """Write the object to `path` and return its sha256. `name`: what the user calls the file.

    Raises:
        Missing: there is no such object, or it holds other bytes. One of the platform's own is removed then: or the
            next upload would be told that the bytes are there already.
        OSError: of the disk.
    """
    unread = wanted.bucket is not None and wanted.sha256 is None  # then its etag is all that is known of it
    tag = wanted.etag if unread else None
    try:
        found = storage.get_file(wanted.key, path, bucket=wanted.bucket, etag=tag, most=wanted.bytes)
    except NotFound as error:
        raise say_gone(wanted, name) from error
    except Conflict as error:
        raise _refuse(storage, wanted, name) from error
    if wanted.sha256 not in (None, found):
        raise _refuse(storage, wanted, name)
    return found


def say_gone(wanted: Fetchable, name: str) -> Missing:
    """What to tell of an object that is not there."""
    if wanted.bucket is None:
        return Missing(f"{name}: its bytes are not in the object store any more; upload the file again")
    return Missing(f"{name}: the file is not in its bucket any more; put it back, or register the folder again")


def _refuse(storage: Storage, wanted: Fetchable, name: str) -> Missing:
    if wanted.bucket is not None:
        return Missing(
            f"{name}: the file was replaced in its bucket after it was registered; register the folder again"
        )
    storage.delete(wanted.key)
    return Missing(f"{name}: the stored bytes do not have the announced sha256; upload the file again")
