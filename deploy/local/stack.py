"""All servers of Overtile on this machine, as one thing to start and stop."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local import lock, outside, postgres, s3, triton, valkey
from deploy.local.home import Home, Server
from deploy.local.process import Process
from deploy.local.secrets import load_or_create

# In the order of starting: the slowest first, and postgres, whose first start keeps us busy, while the others come up.
SERVERS: Mapping[str, Callable[[Home], Server]] = {
    "triton": triton.server,
    "valkey": valkey.server,
    "s3": s3.server,
    "postgres": postgres.server,
}


class Stack:
    """The servers of one data directory, running inside `with`.

    durable: whether data must survive a power cut; tests say no and save time. servers: which of SERVERS to run.
    """

    def __init__(self, data: Path, *, durable: bool = True, servers: Sequence[str] = tuple(SERVERS)) -> None:
        if unknown := set(servers) - set(SERVERS):
            raise ValueError(f"no such servers: {', '.join(sorted(unknown))}; there are {', '.join(SERVERS)}")
        self.data = data.absolute()
        self._durable, self._names = durable, [name for name in SERVERS if name in servers]
        self._running: dict[str, Server] = {}
        self._undo = ExitStack()

    def start(self) -> None:
        """Start all and return when each is healthy.

        Raises ServerDidNotStart, StackInUse or ServerNotInstalled, and then none is left running.
        """
        with ExitStack() as undo:
            home = self._occupy(undo)
            for name in self._names:
                server = SERVERS[name](home)
                self._running[name] = server
                undo.callback(server.process.stop)  # before the start, which Ctrl-C may cut in two
                server.process.start()
            for server in self._running.values():
                server.process.wait_healthy()
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """Stop all, in the reverse order; does nothing if none runs."""
        self._undo.close()
        self._running.clear()

    def environment(self) -> dict[str, str]:
        """The variables by which our services find these servers."""
        return {key: value for server in self._running.values() for key, value in server.environment.items()}

    def processes(self) -> dict[str, Process]:
        """All of them, by name."""
        return {name: server.process for name, server in self._running.items()}

    def process(self, name: str) -> Process:
        """The process of one server, such as "valkey", for tests that kill and restart it."""
        return self._running[name].process

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _occupy(self, undo: ExitStack) -> Home:
        """Take the data directory for us."""
        self.data.mkdir(parents=True, exist_ok=True)
        guard = lock.acquire(self.data / "lock")
        undo.callback(os.close, guard)
        self._running.clear()
        return Home(self.data, load_or_create(self.data), durable=self._durable, lock=guard)


def erase(data: Path) -> None:
    """Delete a data directory and what it has elsewhere on this machine. Raises StackInUse while servers run in it."""
    if not data.exists():
        return
    guard = lock.acquire(data / "lock")
    try:
        outside.remove_stand_in(data / "postgres")
        shutil.rmtree(data)
    finally:
        os.close(guard)
