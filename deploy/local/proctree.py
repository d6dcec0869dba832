"""Which processes belong to a process, read from /proc, and how to be rid of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Member:
    """One process; `born` (clock ticks since boot) tells it from a later one with the same pid."""

    pid: int
    born: int


@dataclass(frozen=True)
class _Status:
    member: Member
    state: str
    parent: int
    session: int


def family(root: int) -> set[Member]:
    """The living descendants of `root` and everything in the session it leads, without `root` itself."""
    everyone = [status for status in _everyone() if status.state != "Z" and status.member.pid != root]
    members: set[Member] = set()
    while True:
        parents = {root, *(member.pid for member in members)}
        found = {status.member for status in everyone if status.parent in parents or status.session == root}
        if found <= members:
            return members
        members |= found


def alive(member: Member) -> bool:
    """Whether that very process still runs; a zombie does not."""
    status = _status(member.pid)
    return status is not None and status.member == member and status.state != "Z"


def pid_alive(pid: int) -> bool:
    """Whether any process runs under this number; a zombie does not."""
    status = _status(pid)
    return status is not None and status.state != "Z"


def destroy(members: Iterable[Member], *, patience_s: float = 5.0) -> None:
    """SIGKILL every member that lives and return when none does, after `patience_s` at the latest."""
    left = [member for member in members if alive(member)]
    for member in left:
        try:
            os.kill(member.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself meanwhile
    deadline = time.monotonic() + patience_s
    while any(alive(member) for member in left) and time.monotonic() < deadline:
        time.sleep(0.005)


def _everyone() -> Iterator[_Status]:
    return (status for pid in _pids() if (status := _status(pid)) is not None)


def _status(pid: int) -> _Status | None:
    """See proc_pid_stat(5). The program's name may hold blanks and brackets: read on from the last bracket."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return _Status(Member(pid, born=int(fields[19])), state=fields[0], parent=int(fields[1]), session=int(fields[3]))


def anyone_names(word: str) -> bool:
    """Whether the command line of any process holds the word."""
    return any(word in _command_line(pid) for pid in _pids())


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""
