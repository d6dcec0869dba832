"""Places under /var/tmp, for an unprivileged user who cannot reach ours.

Opening our own folders to that user would open them to everyone, for ever; so the few things it needs go elsewhere.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path("/var/tmp")  # noqa: S108  # what is found there is used only if `_own_folder` or `copy` finds it ours
logger = logging.getLogger(__name__)


def can_reach(user: str, path: Path) -> bool:
    """Whether the user may enter or execute `path` and enter every folder above it."""
    account, path = pwd.getpwnam(user), path.resolve()
    return all(_may_enter(account, place.stat()) for place in (path, *path.parents))


def stand_in(folder: Path, *, instance: str, owner: str) -> Path:
    """A folder that `owner` can reach, to use in place of `folder`, which becomes a link to it.

    If the one from last time holds the data of another instance (the data directory was deleted and begun anew), that
    is put aside, not deleted.
    """
    place = ROOT / f"overtile-{_digest(str(folder.resolve().parent / folder.name))}"
    if folder.is_symlink():
        place = folder.readlink()
    mark = place / "instance"
    if place.exists() and mark.exists() and mark.read_text() != instance:
        aside = place.with_name(f"{place.name}-of-{mark.read_text()}")
        place.rename(aside)
        logger.warning("%s belonged to a data directory that is gone; it is now %s", place, aside)
    _own_folder(place, owners={0, pwd.getpwnam(owner).pw_uid})
    mark.write_text(instance)
    if not folder.is_symlink():
        folder.symlink_to(place)
        logger.warning("%s is out of reach for the user %s: its data lies in %s", folder, owner, place)
    return place


def remove_stand_in(folder: Path) -> None:
    """Delete what `stand_in` made for this folder, if it made something."""
    if folder.is_symlink() and folder.readlink().parent == ROOT:
        shutil.rmtree(folder.readlink(), ignore_errors=True)


def copy(base: Path, parts: Sequence[str], *, name: str) -> Path:
    """A copy of `base / part` for every part, readable by all, made once per content of `base`; returns its base."""
    stamps = [str((base / part).stat().st_mtime_ns) for part in parts]
    place = ROOT / f"overtile-{name}-{_digest(str(base), *stamps)}"
    if place.exists():
        if place.lstat().st_uid != os.getuid():
            raise PermissionError(f"{place} should be ours and is not: remove it")
        return place
    draft = Path(tempfile.mkdtemp(prefix="overtile-", dir=ROOT))
    for part in parts:
        shutil.copytree(base / part, draft / part)
    draft.chmod(0o755)
    draft.rename(place)
    return place


def _own_folder(place: Path, *, owners: set[int]) -> None:
    """Make the folder, or see that it is no trap: anybody may make folders and links in /var/tmp."""
    place.mkdir(mode=0o700, exist_ok=True)
    status = place.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in owners:
        raise PermissionError(f"{place} should be a folder of ours and is not: remove it")


def _may_enter(account: pwd.struct_passwd, status: os.stat_result) -> bool:
    if status.st_uid == account.pw_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.pw_gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]
