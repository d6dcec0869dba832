"""Jobs and blocks under whatever may happen in whatever order (hypothesis, on the real database)."""

from dataclasses import replace
from enum import Enum, auto
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.worker.sweeper import sweep
from shared.database import Sessions
from shared.domain import blocks, jobs
from shared.domain.blocks import Claim, ImageOutcome
from shared.errors import Conflict
from shared.tables import Block, Job, Workspace
from shared.tables.jobs import OPEN_BLOCK, BlockState, JobState, Stage
from tests.rows import LEASE, claim_next, let_lease_end, make_dispatcher, outcome_of, submit, work_off

CAUSE = {"type": "bug", "detail": "made by the test"}
ATTEMPTS = 3


class Fate(Enum):
    """What becomes of an image in a bundle."""

    DONE = auto()
    FAILED = auto()
    LEFT = auto()


class JobMachine(RuleBasedStateMachine):
    """Workers claim, commit, fail, give back, die and come back late; the user may cancel at any time."""

    sessions: Sessions
    workspace: Workspace
    claims: Bundle[Claim] = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.session: Session = self.sessions()
        self.dispatcher = make_dispatcher()
        self.job = submit(self.session, self.dispatcher, self.workspace, images=1, small=3)
        self.committed: set[UUID] = set()

    @rule(target=claims)
    def claim(self) -> Any:
        claim = claim_next(self.session, self.job)
        return multiple() if claim is None else claim

    @rule(claim=claims, regions=st.integers(1, 3), fates=st.lists(st.sampled_from(Fate), min_size=3, max_size=3))
    def commit(self, claim: Claim, regions: int, fates: list[Fate]) -> None:
        outcome = replace(outcome_of(claim, regions=regions), images=self._end_images(claim, fates))
        if blocks.commit(self.session, self.dispatcher, claim, outcome):
            assert claim.block.id not in self.committed, "committed twice"
            self.committed.add(claim.block.id)

    @rule(claim=claims, final=st.booleans())
    def fail(self, claim: Claim, final: bool) -> None:
        blocks.fail(self.session, self.dispatcher, claim, CAUSE, attempts=1 if final else ATTEMPTS)

    @rule(claim=claims)
    def give_back(self, claim: Claim) -> None:
        blocks.give_back(self.session, self.dispatcher, claim)

    @rule(claim=claims)
    def renew(self, claim: Claim) -> None:
        held = self._state_of(claim) is BlockState.LEASED and self._fence_of(claim) == claim.fence
        assert (blocks.renew(self.session, claim, lease=LEASE) is not None) == held

    @rule(claim=claims)
    def die(self, claim: Claim) -> None:
        let_lease_end(self.session, claim.block.id)
        sweep(self.session, self.dispatcher, attempts=ATTEMPTS)

    @rule(often=st.integers(0, 9))
    def cancel(self, often: int) -> None:
        if often == 0:
            try:
                jobs.cancel(self.session, self.workspace.id, self.job.id)
            except Conflict:
                assert self._job_state().final

    @invariant()
    def a_job_has_ended_exactly_if_nothing_is_left_to_do(self) -> None:
        with self.session.begin():
            open_blocks = self.session.scalar(
                select(func.count()).where(Block.job_id == self.job.id, Block.state.in_(OPEN_BLOCK))
            )
        assert self._job_state().final == (open_blocks == 0)

    @invariant()
    def what_was_committed_stays_done(self) -> None:
        with self.session.begin():
            query = select(Block.id).where(Block.job_id == self.job.id, Block.state == BlockState.DONE)
            assert set(self.session.scalars(query)) == self.committed

    def teardown(self) -> None:
        """Whatever happened: once the silent are swept and the rest is worked off, the job ends."""
        with self.session.begin():
            held = select(Block.id).where(Block.job_id == self.job.id, Block.state == BlockState.LEASED)
            ids = self.session.scalars(held).all()
        for block_id in ids:
            let_lease_end(self.session, block_id)
        sweep(self.session, self.dispatcher, attempts=ATTEMPTS)
        list(work_off(self.session, self.dispatcher, self.job))
        assert self._job_state().final
        self.session.close()

    def _end_images(self, claim: Claim, fates: list[Fate]) -> list[ImageOutcome]:
        """Of a bundle: some of its images are done, some have failed, some are left behind."""
        if claim.block.stage is not Stage.BUNDLE:
            return []
        bundled = jobs.find_images(self.session, claim.job, claim.block.spec["images"])
        fated = [(image, fate) for image, fate in zip(bundled, fates, strict=False) if fate is not Fate.LEFT]
        return [ImageOutcome(image.id, error=CAUSE if fate is Fate.FAILED else None) for image, fate in fated]

    def _job_state(self) -> JobState:
        with self.session.begin():
            return self.session.scalars(select(Job.state).where(Job.id == self.job.id)).one()

    def _state_of(self, claim: Claim) -> BlockState:
        with self.session.begin():
            return self.session.scalars(select(Block.state).where(Block.id == claim.block.id)).one()

    def _fence_of(self, claim: Claim) -> int:
        with self.session.begin():
            return self.session.scalars(select(Block.fence).where(Block.id == claim.block.id)).one()


@pytest.fixture
def machine(sessions: Sessions, workspace: Workspace) -> type[JobMachine]:
    JobMachine.sessions, JobMachine.workspace = sessions, workspace
    return JobMachine


def test_no_order_of_events_loses_a_job_or_commits_a_block_twice(machine: type[JobMachine]) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine, settings=settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=checks)
    )
