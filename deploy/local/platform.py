"""The whole platform on this machine: the servers, and our own services on top of them."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local.ports import port_for
from deploy.local.process import Process
from deploy.local.secrets import write_private
from deploy.local.stack import Stack
from shared import migrations
from shared.database import make_engine, make_sessions
from shared.domain import workspaces
from shared.errors import NotFound, Unauthenticated
from shared.settings import Settings

WORKSPACE = "local"
DRAIN_SECONDS = 20.0
# A training frees and takes the same large arrays at every step. Kept, not returned to the kernel: 15 % less time.
KEEP_MEMORY = {
    "GLIBC_TUNABLES": ":".join(
        ["glibc.malloc.hugetlb=1", "glibc.malloc.mmap_threshold=33554432", "glibc.malloc.trim_threshold=4000000000"]
    )
}
# A worker's threads take and free arrays of megabytes: from many arenas, its memory grows with the size of a slide.
FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}
MEMORY = {"trainer": KEEP_MEMORY, "worker": FEW_ARENAS}

Say = Callable[[str], None]


class Platform:
    """Servers, API, worker, trainer and sweeper of one data directory, running inside `with`.

    `url`: the API's address. `api_key`: opens the workspace "local". `say` is told what is being started.
    `settings`: variables (`OVERTILE_…`) that replace the defaults. `services`: how many processes of each to run.
    """

    def __init__(
        self,
        data: Path,
        *,
        durable: bool = True,
        say: Say = print,
        settings: Mapping[str, str] | None = None,
        services: Mapping[str, int] | None = None,
    ) -> None:
        self.data = data.absolute()
        self.stack = Stack(self.data, durable=durable)
        self.url = self.api_key = ""
        self._say = say
        self._settings = dict(settings or {})
        self._services = {"api": 1, "worker": 1, "trainer": 1, "sweeper": 1, **(services or {})}
        self._processes: dict[str, Process] = {}
        self._undo = ExitStack()

    def start(self) -> None:
        """Start all; returns when the API is ready and the workers listen. On failure none is left running."""
        with ExitStack() as undo:
            self._say("starting PostgreSQL, Valkey, S3 and Triton ...")
            undo.enter_context(self.stack)
            settings = self.load_settings()
            migrations.upgrade(make_engine(settings))
            self.api_key = _ensure_key(self.data / "api-key", settings)
            self.url = f"http://127.0.0.1:{port_for('api', data=self.data)}"
            self._say("starting API, worker, trainer and sweeper ...")
            for process in self._make_processes().values():
                undo.callback(process.stop)
                process.start()
            for process in self._processes.values():
                process.wait_healthy()
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """Stop the services, then the servers."""
        self._undo.close()

    def process(self, name: str) -> Process:
        """A server or a service, such as "triton", "api" or "worker-1", for tests that make faults."""
        return self._processes[name] if name in self._processes else self.stack.process(name)

    def revive(self) -> list[str]:
        """Start again what has ended by itself; returns the names."""
        everything = {**self.stack.processes(), **self._processes}
        ended = {name: process for name, process in everything.items() if not process.running}
        for process in ended.values():
            process.start()
        return list(ended)

    def environment(self) -> dict[str, str]:
        """The variables that our services are started with."""
        return {
            **self.stack.environment(),
            "OVERTILE_CACHE_DIR": str(self.data / "cache"),
            "OVERTILE_DRAIN_SECONDS": str(DRAIN_SECONDS),
            **self._settings,
        }

    def load_settings(self) -> Settings:
        """The settings of the running stack, for code in this process."""
        names = {name.removeprefix("OVERTILE_").lower(): value for name, value in self.environment().items()}
        return Settings.model_validate({name: names[name] for name in Settings.model_fields if name in names})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _make_processes(self) -> dict[str, Process]:
        makers = {"api": self._api, "worker": self._consumer, "trainer": self._consumer, "sweeper": self._sweeper}
        for service, count in self._services.items():
            for number in range(1, count + 1):
                name = service if service in ("api", "sweeper") else f"{service}-{number}"
                self._processes[name] = makers[service](name)
        return self._processes

    def _api(self, name: str) -> Process:
        port = self.url.rsplit(":", 1)[1]
        argv = ["-m", "uvicorn", "--factory", "services.api.app:create_app", "--host", "127.0.0.1", "--port", port]
        return self._service(name, [*argv, "--no-access-log"], healthy=lambda: _ask_ready(f"{self.url}/readyz"))

    def _consumer(self, name: str) -> Process:
        ready = self.data / "run" / f"{name}.ready"
        ready.parent.mkdir(parents=True, exist_ok=True)
        ready.unlink(missing_ok=True)
        service = name.rsplit("-", 1)[0]
        variables = {"OVERTILE_READY_FILE": str(ready), **MEMORY[service]}
        return self._service(name, ["-m", f"services.{service}"], healthy=lambda: _find(ready), variables=variables)

    def _sweeper(self, name: str) -> Process:
        return self._service(name, ["-m", "services.worker.sweeping"], healthy=lambda: None)

    def _service(
        self, name: str, argv: list[str], *, healthy: Callable[[], None], variables: Mapping[str, str] | None = None
    ) -> Process:
        return Process(
            name,
            [sys.executable, *argv],
            log=self.data / "logs" / f"{name}.log",
            healthy=healthy,
            env={**self.environment(), "PYTHONUNBUFFERED": "1", **(variables or {})},
            patience_s=60,
            stop_patience_s=DRAIN_SECONDS + 15,
        )


def _ensure_key(store: Path, settings: Settings) -> str:
    """The key of the local workspace: made on the first start, kept in a file that only its owner can read."""
    with make_sessions(make_engine(settings))() as session:
        if store.exists():
            try:
                workspaces.authenticate(session, key := store.read_text().strip())
            except Unauthenticated:  # revoked, or the database is a new one: a new key is issued below
                store.unlink()
            else:
                return key
        try:
            workspace = workspaces.find(session, WORKSPACE)
        except NotFound:
            workspace = workspaces.create(session, WORKSPACE)
        key = workspaces.issue_key(session, workspace, label="local platform")
    write_private(store, key)
    return key


def _ask_ready(url: str) -> None:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # our own address
        answer.read()


def _find(ready: Path) -> None:
    if not ready.exists():
        raise FileNotFoundError("it has not said that it listens")
