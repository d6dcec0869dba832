"""Blocks: claimed by one, committed once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.worker.sweeper import sweep
from shared.database import Sessions
from shared.domain import blocks, jobs
from shared.domain.dispatch import Dispatcher
from shared.queue import WORK
from shared.tables import Block, Job, JobImage, Workspace
from shared.tables.jobs import BlockState, ImageState, JobState, Stage
from tests.doorbells import MemoryDoorbell
from tests.rows import LEASE, claim_next, let_lease_end, make_dispatcher, must_claim, outcome_of, submit, work_off

CAUSE = {"type": "input", "detail": "damaged"}


@pytest.fixture
def doorbell() -> MemoryDoorbell:
    return MemoryDoorbell()


@pytest.fixture
def dispatcher(doorbell: MemoryDoorbell) -> Dispatcher:
    return make_dispatcher(doorbell)


@pytest.fixture
def job(session: Session, dispatcher: Dispatcher, workspace: Workspace) -> Job:
    return submit(session, dispatcher, workspace)


def reload(session: Session, job: Job) -> Job:
    with session.begin():
        session.refresh(job)
    return job


def test_a_job_goes_through_all_its_stages(session: Session, dispatcher: Dispatcher, job: Job) -> None:
    stages = [claim.block.stage for claim in work_off(session, dispatcher, job)]
    assert stages == [
        Stage.PLAN,
        *[Stage.PREDICT] * 2,
        Stage.DIVIDE,
        *[Stage.LABEL] * 2,
        Stage.ASSEMBLE,
        Stage.SUMMARISE,
        Stage.CLOSE,
    ]
    assert reload(session, job).state is JobState.SUCCEEDED


def test_of_many_who_claim_a_block_at_once_one_gets_it(sessions: Sessions, session: Session, job: Job) -> None:
    with session.begin():
        block_id = session.scalars(select(Block.id)).one()

    def claim(owner: int) -> bool:
        with sessions() as own:
            return blocks.claim(own, block_id, owner=str(owner), lease=LEASE) is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(24))) == 1


def test_a_block_delivered_twice_is_committed_once(session: Session, dispatcher: Dispatcher, job: Job) -> None:
    claim = must_claim(session, job)
    assert blocks.claim(session, claim.block.id, owner="twin", lease=LEASE) is None
    assert blocks.commit(session, dispatcher, claim, outcome_of(claim))
    assert not blocks.commit(session, dispatcher, claim, outcome_of(claim))
    assert blocks.claim(session, claim.block.id, owner="late", lease=LEASE) is None
    with session.begin():
        assert session.scalar(select(func.count()).where(Block.stage == Stage.PREDICT)) == 2


def test_a_late_worker_changes_nothing(session: Session, dispatcher: Dispatcher, job: Job) -> None:
    late = must_claim(session, job, owner="late")
    let_lease_end(session, late.block.id)
    assert sweep(session, dispatcher, attempts=5) == 1
    present = must_claim(session, job, owner="present")
    assert present.fence > late.fence
    assert blocks.renew(session, late, lease=LEASE) is None
    assert not blocks.commit(session, dispatcher, late, outcome_of(late))
    assert not blocks.fail(session, dispatcher, late, CAUSE, attempts=1)
    assert not blocks.give_back(session, dispatcher, late)
    assert blocks.commit(session, dispatcher, present, outcome_of(present))


def test_a_renewed_lease_is_not_taken(session: Session, dispatcher: Dispatcher, job: Job) -> None:
    claim = must_claim(session, job)
    let_lease_end(session, claim.block.id)
    expired = blocks.find_expired(session)
    assert blocks.renew(session, claim, lease=LEASE) is JobState.RUNNING
    assert not blocks.expire(session, dispatcher, expired[0], attempts=5)
    assert blocks.commit(session, dispatcher, claim, outcome_of(claim))


def test_a_failed_try_is_repeated_after_a_pause(
    session: Session, dispatcher: Dispatcher, doorbell: MemoryDoorbell, job: Job
) -> None:
    claim = must_claim(session, job)
    doorbell.lose_all()
    assert blocks.fail(session, dispatcher, claim, CAUSE, attempts=3)
    assert doorbell.depth(WORK) == 0
    with session.begin():
        block = session.get_one(Block, claim.block.id)
        assert (block.state, block.error, block.attempt) == (BlockState.PENDING, CAUSE, 1)
        session.execute(update(Block).values(ring_at=func.now()))
    assert dispatcher.ring_due(session) == 1


def test_a_block_is_given_up_after_its_last_try_with_its_cause(
    session: Session, dispatcher: Dispatcher, job: Job
) -> None:
    for _ in range(3):
        assert blocks.fail(session, dispatcher, must_claim(session, job), CAUSE, attempts=3)
    list(work_off(session, dispatcher, job))
    assert reload(session, job).state is JobState.FAILED
    assert job.error == CAUSE


def test_a_message_that_comes_twice_does_not_cut_the_pause_short(
    session: Session, dispatcher: Dispatcher, job: Job
) -> None:
    claim = must_claim(session, job)
    assert blocks.fail(session, dispatcher, claim, CAUSE, attempts=3)
    assert blocks.claim(session, claim.block.id, owner="eager", lease=LEASE) is None


def test_an_outage_costs_no_tries_and_ends_a_job_only_after_hours(
    session: Session, dispatcher: Dispatcher, job: Job
) -> None:
    away = {"type": "unavailable", "detail": "the store did not answer"}
    for _ in range(20):
        assert blocks.fail(session, dispatcher, must_claim(session, job), away, attempts=3)
    claim = must_claim(session, job)
    assert claim.attempt == 1
    with session.begin():
        session.execute(update(Block).values(started_at=Block.started_at - blocks.LONGEST_OUTAGE - LEASE))
    assert blocks.fail(session, dispatcher, claim, away, attempts=3)
    list(work_off(session, dispatcher, job))
    assert reload(session, job).state is JobState.FAILED


def test_a_region_of_a_failed_image_is_not_tried_again(session: Session, dispatcher: Dispatcher, job: Job) -> None:
    plan = must_claim(session, job)
    blocks.commit(session, dispatcher, plan, outcome_of(plan, regions=2))
    first, second = must_claim(session, job), must_claim(session, job)
    assert blocks.fail(session, dispatcher, first, CAUSE, attempts=1)
    assert blocks.fail(session, dispatcher, second, CAUSE, attempts=3)
    with session.begin():
        assert session.get_one(Block, second.block.id).state is BlockState.CANCELLED


def test_giving_back_is_no_try(session: Session, dispatcher: Dispatcher, job: Job) -> None:
    for _ in range(20):
        assert blocks.give_back(session, dispatcher, must_claim(session, job))
    assert must_claim(session, job).block.attempt == 1


def test_a_worker_that_dies_over_and_over_makes_the_block_fail_as_lost(
    session: Session, dispatcher: Dispatcher, job: Job
) -> None:
    for _ in range(3):
        let_lease_end(session, must_claim(session, job).block.id)
        assert sweep(session, dispatcher, attempts=3) == 1
    with session.begin():
        block = session.scalars(select(Block).where(Block.stage == Stage.PLAN)).one()
    assert block.state is BlockState.FAILED
    assert block.error is not None
    assert block.error["type"] == "lost"


def test_one_bad_image_is_one_bad_image(session: Session, dispatcher: Dispatcher, workspace: Workspace) -> None:
    job = submit(session, dispatcher, workspace, images=3)
    bad = must_claim(session, job)
    assert blocks.fail(session, dispatcher, bad, CAUSE, attempts=1)
    list(work_off(session, dispatcher, job))
    assert reload(session, job).state is JobState.PARTIAL
    assert job.error == {"type": "input", "detail": "1 of 3 images failed; the first: damaged"}
    with session.begin():
        states = session.scalars(select(JobImage.state).order_by(JobImage.ordinal)).all()
    assert sorted(states) == [ImageState.DONE, ImageState.DONE, ImageState.FAILED]


def test_a_region_that_fails_takes_back_the_rest_of_its_image(
    session: Session, dispatcher: Dispatcher, job: Job
) -> None:
    plan = must_claim(session, job)
    blocks.commit(session, dispatcher, plan, outcome_of(plan, regions=4))
    held, bad = must_claim(session, job), must_claim(session, job)
    assert blocks.fail(session, dispatcher, bad, CAUSE, attempts=1)
    assert blocks.commit(session, dispatcher, held, outcome_of(held))
    list(work_off(session, dispatcher, job))
    assert reload(session, job).state is JobState.FAILED
    with session.begin():
        states = session.scalars(select(Block.state).where(Block.stage == Stage.PREDICT)).all()
        assert session.scalar(select(func.count()).where(Block.stage == Stage.ASSEMBLE)) == 0
    assert sorted(states) == ["cancelled", "cancelled", "done", "failed"]


def test_a_cancelled_job_ends_when_its_last_worker_lets_go(
    session: Session, dispatcher: Dispatcher, workspace: Workspace, job: Job
) -> None:
    plan = must_claim(session, job)
    blocks.commit(session, dispatcher, plan, outcome_of(plan))
    held = must_claim(session, job)
    assert jobs.cancel(session, workspace.id, job.id).state is JobState.CANCELLING
    assert claim_next(session, job) is None
    assert blocks.renew(session, held, lease=LEASE) is JobState.CANCELLING
    assert blocks.give_back(session, dispatcher, held)
    assert reload(session, job).state is JobState.CANCELLED
    assert jobs.cancel(session, workspace.id, job.id).state is JobState.CANCELLED


def test_a_cancelled_job_ends_also_when_its_worker_died(
    session: Session, dispatcher: Dispatcher, workspace: Workspace, job: Job
) -> None:
    held = must_claim(session, job)
    jobs.cancel(session, workspace.id, job.id)
    let_lease_end(session, held.block.id)
    assert sweep(session, dispatcher, attempts=5) == 1
    assert reload(session, job).state is JobState.CANCELLED
    assert job.error is None


def test_a_job_that_nobody_began_is_cancelled_at_once(session: Session, workspace: Workspace, job: Job) -> None:
    assert jobs.cancel(session, workspace.id, job.id).state is JobState.CANCELLED


def test_the_queue_stays_shallow_and_every_block_is_rung_in_the_end(
    session: Session, workspace: Workspace, doorbell: MemoryDoorbell
) -> None:
    dispatcher = make_dispatcher(doorbell, depth=4)
    job = submit(session, dispatcher, workspace, images=10)
    assert doorbell.depth(WORK) == 4
    while doorbell.messages[WORK]:
        claim = blocks.claim(session, doorbell.messages[WORK].popleft(), owner="worker", lease=LEASE)
        if claim:
            blocks.commit(session, dispatcher, claim, outcome_of(claim))
        assert doorbell.depth(WORK) <= 4
    assert reload(session, job).state is JobState.SUCCEEDED


def test_lost_messages_are_rung_again(
    session: Session, dispatcher: Dispatcher, doorbell: MemoryDoorbell, job: Job
) -> None:
    assert doorbell.depth(WORK) == 1
    doorbell.lose_all()
    assert dispatcher.ring_due(session) == 0  # patience: the message may still be on its way
    with session.begin():
        session.execute(update(Block).values(ring_at=Block.ring_at - timedelta(minutes=1)))
    assert sweep(session, dispatcher, attempts=5) == 0
    assert doorbell.depth(WORK) == 1


def test_the_database_itself_refuses_a_lease_without_an_owner(session: Session, job: Job) -> None:
    with pytest.raises(IntegrityError), session.begin():
        session.execute(update(Block).values(state=BlockState.LEASED))


def test_a_planned_block_cannot_be_added_twice(session: Session, dispatcher: Dispatcher, job: Job) -> None:
    plan = must_claim(session, job)
    twice = [*outcome_of(plan, regions=1).blocks, *outcome_of(plan, regions=1).blocks]
    with pytest.raises(IntegrityError):
        blocks.commit(session, dispatcher, plan, blocks.Outcome(blocks=twice))
