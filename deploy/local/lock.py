"""One stack per data directory."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from deploy.local import proctree
from deploy.local.errors import StackInUse


def acquire(path: Path, *, patience_s: float = 20.0, wait_for_holder: bool = False) -> int:
    """Lock the file, write our pid into it and return it open; closing it gives the lock up.

    If its holder is alive, raises StackInUse, at once unless `wait_for_holder`. If it is dead, its servers hold the
    lock they inherited while the kernel's signal ends them: waits for that, `patience_s` at most.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait(lock, path.parent, patience_s=patience_s, wait_for_holder=wait_for_holder)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def find_holder(path: Path) -> int | None:
    """The pid of the living process that holds the lock, if there is one."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return None if _try(lock) else _living_holder(lock)
    finally:
        os.close(lock)


def _wait(lock: int, data: Path, *, patience_s: float, wait_for_holder: bool) -> None:
    deadline = time.monotonic() + patience_s
    while not _try(lock):
        holder, late = _living_holder(lock), time.monotonic() > deadline
        if holder is not None and (late or not wait_for_holder):
            raise StackInUse(f"process {holder} runs its servers in {data}: end it, or use another folder")
        if late:
            raise StackInUse(f"servers that a dead process left behind still run in {data}")
        time.sleep(0.02)


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _living_holder(lock: int) -> int | None:
    """The pid in the file, if that process lives; the file is empty in the moment between locking and writing."""
    text = os.pread(lock, 32, 0)
    return int(text) if text and proctree.pid_alive(int(text)) else None
