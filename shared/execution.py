"""How a process works on a block: claim it, keep the lease alive, do the stage's work, commit.

The same for workers and trainers. Everything that can go wrong ends in one of four ways: committed, failed with a
cause, given back, or left to the sweeper because the process is gone.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self
from uuid import UUID

from sqlalchemy.exc import OperationalError, SQLAlchemyError

from shared.database import Sessions
from shared.domain import blocks
from shared.domain.blocks import Claim, Outcome
from shared.domain.dispatch import Dispatcher
from shared.errors import Cancelled, Draining, Interrupted, LeaseLost, Rejected, Unavailable
from shared.layouts.documents import clean
from shared.tables import JobImage
from shared.tables.base import Json
from shared.tables.jobs import JobState, Stage

log = logging.getLogger(__name__)

COMMIT_PAUSE = 1.0  # seconds between two tries to commit
# What PostgreSQL says when it is away or busy (https://www.postgresql.org/docs/current/errcodes-appendix.html).
# Anything else, such as a value beyond one of its limits, it would say again.
PASSING_CLASSES = {"08", "53", "57"}  # connection, resources, an administrator
PASSING_STATES = {"40001", "40P01", "55P03"}  # transactions that were in each other's way
BEATS_PER_LEASE = 4  # how often a lease is renewed within its length: three renewals may fail before it is lost


class Drain:
    """The end of a process: after `begin`, blocks may go on for `seconds`, then they are given back."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None

    def begin(self) -> None:
        """The process has been asked to end."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._seconds

    @property
    def begun(self) -> bool:
        """Whether no new block should be begun."""
        return self._deadline is not None

    @property
    def over(self) -> bool:
        """Whether blocks should be given back now."""
        return self._deadline is not None and time.monotonic() >= self._deadline


class Work:
    """A claimed block, kept alive by a thread for as long as the `with` lasts."""

    def __init__(self, claim: Claim, sessions: Sessions, *, lease: timedelta, drain: Drain) -> None:
        self.claim = claim
        self._sessions = sessions
        self._lease = lease
        self._drain = drain
        self._note: Json | None = None
        self._advanced = False
        self._interruption: Interrupted | None = None
        self._renewed = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{claim.block.id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def image(self) -> JobImage:
        """The image the block belongs to."""
        if self.claim.image is None:
            raise ValueError(f"a {self.claim.block.stage} block belongs to no image")
        return self.claim.image

    def check(self) -> None:
        """Raise if the work should stop: block lost, job cancelled, process ending. Cheap; call often."""
        if self._interruption is not None:
            raise self._interruption
        if time.monotonic() - self._renewed > self._lease.total_seconds():
            raise LeaseLost("the lease could not be renewed for its length")
        if self._drain.over:
            raise Draining("this process was asked to end")

    def note(self, note: Json) -> None:
        """Leave a remark for progress bars; it travels with the next renewal of the lease."""
        self._note = note

    def advance(self) -> None:
        """What was done so far is kept: should this process die, its successor goes on from there.

        A try that got somewhere is not held against the block.
        """
        self._advanced = True

    def _beat(self) -> None:
        while not self._ended.wait(self._lease.total_seconds() / BEATS_PER_LEASE):
            try:
                with self._sessions() as session:
                    state = blocks.renew(
                        session, self.claim, lease=self._lease, note=self._note, advanced=self._advanced
                    )
            except SQLAlchemyError as error:
                log.warning("the lease of block %s was not renewed: %s", self.claim.block.id, error)
                continue  # `check` sees how old the lease is
            self._renewed = time.monotonic()
            if state is None:
                self._interruption = LeaseLost("the lease ran out and the block went to somebody else")
                return
            if state is JobState.CANCELLING:
                self._interruption = Cancelled("the job was cancelled")
                return


StageFunction = Callable[[Work], Outcome]


class Executor:
    """Executes blocks of the stages it knows. `execute` may be called from several threads at once."""

    def __init__(
        self,
        sessions: Sessions,
        dispatcher: Dispatcher,
        stages: Mapping[Stage, StageFunction],
        *,
        lease: timedelta,
        attempts: int,
        drain: Drain,
    ) -> None:
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._stages = stages
        self._lease = lease
        self._attempts = attempts
        self._drain = drain
        self._owner = f"{socket.gethostname()}:{os.getpid()}"

    def execute(self, block_id: UUID) -> None:
        """Do the block's work, if it is still to be done. Safe to call twice, at once or after each other."""
        if self._drain.begun:
            return
        with self._sessions() as session:
            claim = blocks.claim(session, block_id, owner=self._owner, lease=self._lease)
        if claim is None:
            log.info("block %s is not to be done any more", block_id)
            return
        log.info("block %s: %s, try %d, of job %s", block_id, claim.block.stage, claim.attempt, claim.job.id)
        try:
            with Work(claim, self._sessions, lease=self._lease, drain=self._drain) as work:
                self._commit(work, self._stages[claim.block.stage](work))
        except LeaseLost as error:
            log.warning("block %s: %s", block_id, error)
        except Interrupted as error:
            log.info("block %s is given back: %s", block_id, error)
            with self._sessions() as session:
                blocks.give_back(session, self._dispatcher, claim)
        except Exception as error:  # the boundary: whatever it was becomes the block's recorded cause
            self._fail(claim, error)

    def _commit(self, work: Work, outcome: Outcome) -> None:
        """Commit while the lease is kept: a database that is away for a moment must not cost hours of work."""
        while True:
            try:
                with self._sessions() as session:
                    if not blocks.commit(session, self._dispatcher, work.claim, outcome):
                        log.warning("block %s was lost before its commit; it does not count", work.claim.block.id)
                    return
            except OperationalError as error:
                if not _may_pass(error):
                    raise
                log.warning("block %s was not committed yet: %s", work.claim.block.id, error)
                work.check()
                time.sleep(COMMIT_PAUSE)

    def _fail(self, claim: Claim, error: Exception) -> None:
        attempts = 1 if isinstance(error, Rejected) else self._attempts
        cause = explain(error)
        # Only what nobody expected needs its stack read.
        log.warning("block %s failed: %s", claim.block.id, cause["detail"], exc_info=cause["type"] == "bug")
        with self._sessions() as session:
            blocks.fail(session, self._dispatcher, claim, cause, attempts=attempts)


def explain(error: Exception) -> Json:
    """The recorded cause of a failure: its kind, and a text for the user."""
    if isinstance(error, Rejected):
        return {"type": "input", "detail": clean(str(error))}
    if isinstance(error, Unavailable):
        return {"type": "unavailable", "detail": str(error)}
    if isinstance(error, OperationalError) and _may_pass(error):
        return {"type": "unavailable", "detail": "the database did not answer"}
    return {"type": "bug", "detail": f"{type(error).__name__}: {error}"}


def _may_pass(error: OperationalError) -> bool:
    """Whether the database may take another time what it did not take now."""
    state = getattr(error.orig, "sqlstate", None)  # None of a connection that was never made, or broke
    return error.connection_invalidated or state is None or state[:2] in PASSING_CLASSES or state in PASSING_STATES
