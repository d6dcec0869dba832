"""Work that takes many tries and gets further with each: tries without progress are counted, no others."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.worker.sweeper import sweep
from shared.database import Sessions
from shared.domain import blocks
from shared.domain.blocks import Claim
from shared.domain.dispatch import Dispatcher
from shared.execution import Drain, Work
from shared.tables import Block, Job, Workspace
from shared.tables.jobs import BlockState, JobState
from tests.rows import LEASE, let_lease_end, make_dispatcher, must_claim, outcome_of, submit, work_off

ATTEMPTS = 3
SHORT_LEASE = timedelta(seconds=0.4)
CAUSE = {"type": "bug", "detail": "ZeroDivisionError: oh"}


@pytest.fixture
def dispatcher() -> Dispatcher:
    return make_dispatcher()


@pytest.fixture
def job(session: Session, dispatcher: Dispatcher, workspace: Workspace) -> Job:
    return submit(session, dispatcher, workspace)


@pytest.fixture
def die(session: Session, dispatcher: Dispatcher, job: Job) -> Callable[..., Block]:
    """A try whose owner dies, after it got further or without having done so; the block afterwards."""

    def die_once(*, advanced: bool) -> Block:
        claim = must_claim(session, job)
        assert blocks.renew(session, claim, lease=LEASE, advanced=advanced) is JobState.RUNNING
        let_lease_end(session, claim.block.id)
        assert sweep(session, dispatcher, attempts=ATTEMPTS) == 1
        return reload(session, claim)

    return die_once


def reload(session: Session, claim: Claim) -> Block:
    with session.begin():
        query = select(Block).where(Block.id == claim.block.id)
        return session.scalars(query.execution_options(populate_existing=True)).one()


def hold(sessions: Sessions, claim: Claim) -> Work:
    return Work(claim, sessions, lease=SHORT_LEASE, drain=Drain(0))


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_block_that_gets_further_with_each_try_is_never_given_up(
    session: Session, dispatcher: Dispatcher, job: Job, die: Callable[..., Block]
) -> None:
    for _ in range(5 * ATTEMPTS):
        assert die(advanced=True).state is BlockState.PENDING
    list(work_off(session, dispatcher, job))
    with session.begin():
        session.refresh(job)
    assert job.state is JobState.SUCCEEDED


def test_a_block_that_never_gets_further_is_given_up_after_its_last_try(die: Callable[..., Block]) -> None:
    states = [die(advanced=False).state for _ in range(ATTEMPTS)]
    assert states == [BlockState.PENDING] * (ATTEMPTS - 1) + [BlockState.FAILED]


def test_tries_are_counted_anew_from_the_one_that_got_further(die: Callable[..., Block]) -> None:
    assert [die(advanced=False).attempt for _ in range(ATTEMPTS - 1)] == [1, 2]
    assert die(advanced=True).attempt == 1
    again = die(advanced=False)
    assert (again.state, again.attempt) == (BlockState.PENDING, 2)
    last = die(advanced=False)
    assert (last.state, last.attempt) == (BlockState.FAILED, ATTEMPTS)
    assert last.error is not None
    assert f"try {ATTEMPTS} of {ATTEMPTS}" in last.error["detail"]


def test_an_advance_is_told_with_the_next_renewal(
    sessions: Sessions, session: Session, dispatcher: Dispatcher, job: Job, die: Callable[..., Block]
) -> None:
    for _ in range(ATTEMPTS - 1):
        die(advanced=False)
    claim = must_claim(session, job)
    assert claim.attempt == ATTEMPTS
    with hold(sessions, claim) as work:
        work.note({"epoch": 1})
        assert eventually(lambda: reload(session, claim).note == {"epoch": 1})
        assert reload(session, claim).attempt == ATTEMPTS  # renewing alone is no progress
        work.advance()
        assert eventually(lambda: reload(session, claim).attempt == 1)
        work.check()
    let_lease_end(session, claim.block.id)
    assert sweep(session, dispatcher, attempts=ATTEMPTS) == 1
    assert reload(session, claim).state is BlockState.PENDING


def test_a_late_worker_does_not_advance_its_successors_block(
    session: Session, job: Job, die: Callable[..., Block], dispatcher: Dispatcher
) -> None:
    late = must_claim(session, job, owner="late")
    let_lease_end(session, late.block.id)
    sweep(session, dispatcher, attempts=ATTEMPTS)
    present = must_claim(session, job, owner="present")
    assert blocks.renew(session, late, lease=LEASE, advanced=True) is None
    assert (reload(session, present).attempt, reload(session, present).owner) == (2, "present")


def test_a_block_given_back_after_an_advance_begins_with_its_first_try(
    session: Session, dispatcher: Dispatcher, job: Job
) -> None:
    claim = must_claim(session, job)
    blocks.renew(session, claim, lease=LEASE, advanced=True)
    assert blocks.give_back(session, dispatcher, claim)
    again = must_claim(session, job)
    assert again.attempt == 1
    assert blocks.commit(session, dispatcher, again, outcome_of(again))


def test_a_failed_try_that_got_further_is_not_held_against_the_block(
    session: Session, dispatcher: Dispatcher, job: Job, die: Callable[..., Block]
) -> None:
    for _ in range(ATTEMPTS - 1):
        die(advanced=False)
    claim = must_claim(session, job)
    blocks.renew(session, claim, lease=LEASE, advanced=True)
    assert blocks.fail(session, dispatcher, claim, CAUSE, attempts=ATTEMPTS)
    assert reload(session, claim).state is BlockState.PENDING
