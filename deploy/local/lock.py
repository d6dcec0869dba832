"""One stack per data directory."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from deploy.local import proctree
from deploy.local.errors import StackInUse


def acquire(path: Path, *, patience_s: float = 20.0) -> int:
    """Lock the file, write our pid into it and return it open; closing it gives the lock up.

    If its holder is alive, raises StackInUse at once. If it is dead, its servers hold the lock they inherited while the
    kernel's signal ends them: waits for that, `patience_s` at most.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_s
    try:
        while not _try(lock):
            holder = _holder(lock)
            if holder is not None and proctree.pid_alive(holder):
                raise StackInUse(f"process {holder} runs its servers in {path.parent}: end it, or use another folder")
            if time.monotonic() > deadline:
                raise StackInUse(f"servers that process {holder} left behind still run in {path.parent}")
            time.sleep(0.02)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(lock: int) -> int | None:
    """The pid in the file; None in the moment between locking and writing."""
    text = os.pread(lock, 32, 0)
    return int(text) if text else None
