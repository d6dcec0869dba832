"""How a process works on a block: every way it can end."""

import random
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg.errors import DeadlockDetected
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from shared import execution
from shared.database import Sessions
from shared.domain import blocks, jobs, progress
from shared.domain.blocks import NewArtifact, Outcome
from shared.errors import LeaseLost, Rejected, Unavailable
from shared.execution import Drain, Executor, Work
from shared.storage import Stored
from shared.tables import Block, Job, Workspace
from shared.tables.jobs import BlockState, Stage
from tests.rows import make_dispatcher, submit

LEASE = timedelta(seconds=0.4)
Execute = Callable[[Callable[[Work], Outcome]], Block]


@pytest.fixture
def job(session: Session, workspace: Workspace) -> Job:
    return submit(session, make_dispatcher(), workspace)


@pytest.fixture
def drain() -> Drain:
    return Drain(0)


@pytest.fixture
def execute(sessions: Sessions, session: Session, job: Job, drain: Drain) -> Execute:
    """Execute the job's plan block with the given work, and look at the block afterwards."""

    def run(work: Callable[[Work], Outcome]) -> Block:
        executor = Executor(sessions, make_dispatcher(), {Stage.PLAN: work}, lease=LEASE, attempts=3, drain=drain)
        executor.execute(plan_of(session, job).id)
        return plan_of(session, job)

    return run


def plan_of(session: Session, job: Job) -> Block:
    with session.begin():
        query = select(Block).where(Block.job_id == job.id, Block.stage == Stage.PLAN)
        return session.scalars(query.execution_options(populate_existing=True)).one()


def work_until_stopped(work: Work) -> Outcome:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        work.check()
        time.sleep(0.01)
    raise AssertionError("nobody stopped the work")


def test_work_that_ends_well_is_committed(execute: Execute) -> None:
    block = execute(lambda work: Outcome(result={"found": 3}))
    assert (block.state, block.result) == (BlockState.DONE, {"found": 3})


def test_work_longer_than_its_lease_keeps_it(execute: Execute, sessions: Sessions) -> None:
    def long_work(work: Work) -> Outcome:
        end = time.monotonic() + 3 * LEASE.total_seconds()
        while time.monotonic() < end:
            work.check()
            with sessions() as sweeper:
                assert blocks.find_expired(sweeper) == []
        return Outcome()

    assert execute(long_work).state is BlockState.DONE


def test_a_note_travels_with_the_lease(execute: Execute, sessions: Sessions, session: Session, job: Job) -> None:
    def noting_work(work: Work) -> Outcome:
        work.note({"epoch": 2})
        deadline = time.monotonic() + 10
        while progress.latest_note(session, job) != {"epoch": 2}:
            assert time.monotonic() < deadline
        return Outcome()

    assert execute(noting_work).state is BlockState.DONE


def test_a_block_whose_job_is_cancelled_is_let_go(
    execute: Execute, sessions: Sessions, workspace: Workspace, job: Job
) -> None:
    def cancelled_work(work: Work) -> Outcome:
        with sessions() as user:
            jobs.cancel(user, workspace.id, job.id)
        return work_until_stopped(work)

    assert execute(cancelled_work).state is BlockState.CANCELLED


def test_a_block_that_somebody_else_holds_is_not_committed(execute: Execute, sessions: Sessions) -> None:
    def overtaken_work(work: Work) -> Outcome:
        with sessions() as other, other.begin():
            other.execute(update(Block).where(Block.id == work.claim.block.id).values(fence=Block.fence + 1))
        with pytest.raises(LeaseLost):
            work_until_stopped(work)
        return Outcome(result={"late": True})

    block = execute(overtaken_work)
    assert (block.state, block.result) == (BlockState.LEASED, {})


def test_a_process_that_is_asked_to_end_gives_its_block_back(execute: Execute, drain: Drain) -> None:
    def interrupted_work(work: Work) -> Outcome:
        drain.begin()
        return work_until_stopped(work)

    block = execute(interrupted_work)
    assert (block.state, block.attempt, block.owner) == (BlockState.PENDING, 0, None)


def test_a_process_that_is_ending_begins_nothing(execute: Execute, drain: Drain) -> None:
    drain.begin()
    assert execute(work_until_stopped).attempt == 0


@pytest.mark.parametrize(
    ("error", "state", "kind"),
    [
        (Rejected("a.png: cut off"), BlockState.FAILED, "input"),
        (Unavailable("the store is away"), BlockState.PENDING, "unavailable"),
        (ZeroDivisionError("oh"), BlockState.PENDING, "bug"),
    ],
)
def test_what_went_wrong_is_recorded(execute: Execute, error: Exception, state: BlockState, kind: str) -> None:
    def bad_work(work: Work) -> Outcome:
        raise error

    block = execute(bad_work)
    assert block.state is state
    assert block.error is not None
    assert block.error["type"] == kind
    assert str(error) in block.error["detail"]


def test_a_block_executed_by_many_at_once_is_worked_on_by_one(
    sessions: Sessions, session: Session, job: Job, drain: Drain
) -> None:
    worked: list[UUID] = []

    def work(work: Work) -> Outcome:
        worked.append(work.claim.block.id)
        return Outcome()

    executor = Executor(sessions, make_dispatcher(), {Stage.PLAN: work}, lease=LEASE, attempts=3, drain=drain)
    block_id = plan_of(session, job).id
    threads = [threading.Thread(target=executor.execute, args=(block_id,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worked == [block_id]


@pytest.mark.timeout(60)
def test_what_the_database_can_never_take_fails_the_block(execute: Execute) -> None:
    endless = random.Random(0).randbytes(20_000).hex()  # no index takes a name of that length
    stored = Stored("key", "0" * 64, 1)
    block = execute(lambda work: Outcome(artifacts=[NewArtifact("labels", endless, "image/tiff", stored)]))
    assert (block.state, block.attempt) == (BlockState.PENDING, 1)
    assert block.error is not None
    assert block.error["type"] == "bug"


def test_a_commit_that_was_in_anothers_way_is_tried_again(execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, refused = blocks.commit, iter([DeadlockDetected("two transactions waited for each other")])

    def commit_later(*arguments: Any) -> bool:
        for error in refused:
            raise OperationalError("COMMIT", {}, error)
        return commit(*arguments)

    monkeypatch.setattr(blocks, "commit", commit_later)
    monkeypatch.setattr(execution, "COMMIT_PAUSE", 0.0)
    assert execute(lambda work: Outcome(result={"found": 3})).state is BlockState.DONE
