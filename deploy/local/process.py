"""One program that lives no longer than we do: start it, wait until it answers, take it down with all it started."""

from __future__ import annotations

import functools
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local import proctree
from deploy.local.errors import ServerDidNotStart

LEASH = Path(__file__).with_name("leash.py")
TAIL_LINES = 20


@functools.cache
def _spawner(_our_pid: int) -> ThreadPoolExecutor:
    """One thread that creates all children and ends with the process, so that any thread may call `Process.start`.

    The kernel's "parent died" signal fires when the *thread* that created the child ends. The pid is the key because a
    fork copies the executor but not its thread.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


def leashed(argv: Sequence[str], *, death_signal: int, user: str | None = None) -> list[str]:
    """The command that runs `argv` so that it gets `death_signal` when this process dies; as root, under `user`."""
    uid, gid = os.getuid(), os.getgid()
    if user is not None:
        account = pwd.getpwnam(user)
        uid, gid = account.pw_uid, account.pw_gid
    leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), str(int(death_signal)), str(uid), str(gid)]
    return [*leash, *argv]


@dataclass(eq=False)
class Process:
    """A program under our control, restartable.

    It has a session of its own, so Ctrl-C in a terminal reaches only us, and we stop things in order.
    """

    name: str  # for messages
    argv: Sequence[str]  # its first word is an absolute path
    _: KW_ONLY
    log: Path  # stdout and stderr are appended to it
    healthy: Callable[[], None]  # raises until the program does its work
    env: Mapping[str, str] = field(default_factory=dict)  # added to our own variables
    stop_signal: signal.Signals = signal.SIGTERM  # what `stop` sends, and what the kernel sends if we die
    user: str | None = None  # run as this account; needs root
    patience_s: float = 30.0  # how long it may take to answer
    stop_patience_s: float = 10.0  # how long it may take to end before SIGKILL
    before_start: Callable[[], None] | None = None  # runs before each start, also a restart
    keep_open: Sequence[int] = ()  # file descriptors that it inherits
    _popen: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _log_start: int = field(default=0, init=False, repr=False)  # bytes that earlier runs wrote

    @property
    def pid(self) -> int:
        """The process id of the latest start, whether or not it still runs."""
        if self._popen is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Begin; returns at once, see `wait_healthy`."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already, with pid {self.pid}")
        if self.before_start is not None:
            self.before_start()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._popen = _spawner(os.getpid()).submit(self._spawn, log.fileno()).result()

    def wait_healthy(self) -> None:
        """Return once the health check passes; raise ServerDidNotStart if the program ends or patience does."""
        deadline, pause = time.monotonic() + self.patience_s, 0.005
        while True:
            problem: Exception | None = None
            try:
                self.healthy()
            except Exception as error:  # whatever the client library raises: not healthy yet
                problem = error
            if not self.running:  # looked at after the check: a stranger on our port may have answered it
                raise self._did_not_start(f"it ended {self._ending()} before it answered") from problem
            if problem is None:
                return
            if time.monotonic() > deadline:
                why = f"no answer within {self.patience_s:g} s, the last try said: {problem or type(problem).__name__}"
                raise self._did_not_start(why) from problem
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)

    def stop(self) -> None:
        """End it: the stop signal, then SIGKILL if patience runs out or anything it started is left."""
        if self._popen is None:
            return
        offspring = proctree.family(self.pid)  # before the signal: an orphan has lost its parent's number
        if self.running:
            self._popen.send_signal(self.stop_signal)
            try:
                self._popen.wait(self.stop_patience_s)
            except subprocess.TimeoutExpired:
                offspring |= proctree.family(self.pid)
        self._destroy(self._popen, offspring)

    def kill(self) -> None:
        """SIGKILL it and all it started, now: for tests that make faults."""
        if self._popen is not None:
            self._destroy(self._popen, proctree.family(self.pid))

    def restart(self) -> None:
        """Stop it if it runs, start it and wait until it is healthy."""
        self.stop()
        self.start()
        self.wait_healthy()

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_healthy()
        except BaseException:  # Ctrl-C too
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _spawn(self, log: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            leashed(self.argv, death_signal=self.stop_signal, user=self.user),
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=self.keep_open,
        )

    @staticmethod
    def _destroy(popen: subprocess.Popen[bytes], offspring: set[proctree.Member]) -> None:
        popen.kill()  # does nothing to a process that has been waited for
        popen.wait()
        if not proctree.pid_alive(popen.pid):  # else the number belongs to a stranger by now, and so does its session
            offspring |= proctree.family(popen.pid)
        proctree.destroy(offspring)

    def _did_not_start(self, why: str) -> ServerDidNotStart:
        return ServerDidNotStart(self.name, why, log=self.log, tail=self._tail())

    def _ending(self) -> str:
        code = self._popen.returncode if self._popen is not None else None
        if code is not None and code < 0:
            return f"by {signal.Signals(-code).name}"
        return f"with exit code {code}"

    def _tail(self) -> str:
        """The last lines it wrote since this start; an earlier run's would mislead."""
        with self.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - 64 * 1024))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])
