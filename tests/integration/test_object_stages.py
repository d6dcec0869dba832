"""Predicted, divided, labelled, assembled, summed up: which stage follows which, and what ends a job in between."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from shared import migrations
from shared.domain import blocks, jobs
from shared.domain.blocks import Claim
from shared.domain.dispatch import Dispatcher
from shared.tables import Block, Job, JobImage, Workspace
from shared.tables.jobs import BlockState, ImageState, JobKind, JobState, Stage
from tests.rows import claim_next, must_claim, outcome_of, submit, work_off

CAUSE = {"type": "bug", "detail": "made by the test"}


@pytest.fixture
def job(session: Session, dispatcher: Dispatcher, workspace: Workspace) -> Job:
    """Two large images."""
    return submit(session, dispatcher, workspace, images=2)


@pytest.fixture
def reach(session: Session, dispatcher: Dispatcher, job: Job) -> Callable[[Stage], Claim]:
    """Work off what is pending until a block of that stage is claimed."""

    def work(stage: Stage) -> Claim:
        while (claim := must_claim(session, job)).block.stage is not stage:
            assert blocks.commit(session, dispatcher, claim, outcome_of(claim))
        return claim

    return work


def states(session: Session, job: Job) -> tuple[JobState, list[ImageState]]:
    images = select(JobImage.state).where(JobImage.job_id == job.id).order_by(JobImage.ordinal)
    with session.begin():
        session.refresh(job)
        return job.state, list(session.scalars(images))


def blocks_of(session: Session, job: Job, *stages: Stage) -> list[BlockState]:
    query = select(Block.state).where(Block.job_id == job.id, Block.stage.in_(stages))
    with session.begin():
        return list(session.scalars(query))


def test_each_image_goes_from_stage_to_stage_by_itself(session: Session, dispatcher: Dispatcher, job: Job) -> None:
    by_image: dict[int | None, list[Stage]] = {}
    for claim in work_off(session, dispatcher, job):
        by_image.setdefault(claim.image.ordinal if claim.image else None, []).append(claim.block.stage)
    path = [Stage.PLAN, *[Stage.PREDICT] * 2, Stage.DIVIDE, *[Stage.LABEL] * 2, Stage.ASSEMBLE]
    assert by_image == {0: path, 1: path, None: [Stage.SUMMARISE, Stage.CLOSE]}
    assert states(session, job) == (JobState.SUCCEEDED, [ImageState.DONE] * 2)


def test_an_image_is_divided_once_its_last_block_is_predicted(
    session: Session, dispatcher: Dispatcher, job: Job, reach: Callable[[Stage], Claim]
) -> None:
    first = reach(Stage.PREDICT)
    assert blocks.commit(session, dispatcher, first, outcome_of(first))
    assert blocks_of(session, job, Stage.DIVIDE) == []


def test_an_image_without_regions_of_objects_is_assembled_at_once(
    session: Session, dispatcher: Dispatcher, job: Job
) -> None:
    assert Stage.LABEL not in [claim.block.stage for claim in work_off(session, dispatcher, job, regions=0)]
    assert states(session, job)[0] is JobState.SUCCEEDED


def test_a_job_cancelled_while_it_labels_adds_nothing(
    session: Session, dispatcher: Dispatcher, workspace: Workspace, job: Job, reach: Callable[[Stage], Claim]
) -> None:
    claim = reach(Stage.LABEL)
    jobs.cancel(session, workspace.id, job.id)
    assert states(session, job)[0] is JobState.CANCELLING
    blocks.commit(session, dispatcher, claim, outcome_of(claim))
    assert claim_next(session, job) is None
    assert blocks_of(session, job, Stage.ASSEMBLE, Stage.SUMMARISE, Stage.CLOSE) == []
    assert states(session, job) == (JobState.CANCELLED, [ImageState.CANCELLED] * 2)


def test_a_region_that_cannot_be_labelled_fails_its_image_alone(
    session: Session, dispatcher: Dispatcher, job: Job, reach: Callable[[Stage], Claim]
) -> None:
    claim = reach(Stage.LABEL)
    assert claim.image is not None
    assert blocks.fail(session, dispatcher, claim, CAUSE, attempts=1)
    rest = select(Block.state).where(Block.image_id == claim.image.id, Block.stage == Stage.LABEL)
    with session.begin():
        assert sorted(session.scalars(rest)) == [BlockState.CANCELLED, BlockState.FAILED]
    left = [other.block.stage for other in work_off(session, dispatcher, job) if other.image is not None]
    assert left[-1] is Stage.ASSEMBLE, "of the other image"
    state, images = states(session, job)
    assert (state, sorted(images)) == (JobState.PARTIAL, [ImageState.DONE, ImageState.FAILED])


def test_what_was_made_stays_where_it_cannot_be_summed_up(
    session: Session, dispatcher: Dispatcher, job: Job, reach: Callable[[Stage], Claim]
) -> None:
    assert blocks.fail(session, dispatcher, reach(Stage.SUMMARISE), CAUSE, attempts=1)
    assert [claim.block.stage for claim in work_off(session, dispatcher, job)] == [Stage.CLOSE]
    assert states(session, job) == (JobState.PARTIAL, [ImageState.DONE] * 2)
    assert job.error == CAUSE


def test_a_job_whose_images_all_fail_is_summed_up_and_has_failed(
    session: Session, dispatcher: Dispatcher, job: Job
) -> None:
    for _ in range(2):
        assert blocks.fail(session, dispatcher, must_claim(session, job), CAUSE, attempts=1)
    assert [claim.block.stage for claim in work_off(session, dispatcher, job)] == [Stage.SUMMARISE, Stage.CLOSE]
    assert states(session, job) == (JobState.FAILED, [ImageState.FAILED] * 2)


def test_the_step_back_removes_what_older_tables_have_no_word_for(
    engine: Engine, session: Session, workspace: Workspace, dispatcher: Dispatcher
) -> None:
    kept, divided = (submit(session, dispatcher, workspace) for _ in range(2))
    claim = must_claim(session, divided)
    assert blocks.commit(session, dispatcher, claim, outcome_of(claim, regions=1))
    predicted = must_claim(session, divided)
    assert blocks.commit(session, dispatcher, predicted, outcome_of(predicted))
    row = {"spec": {}, "idempotency_key": "once", "order_digest": "d"}
    with session.begin():
        session.add(Job(workspace_id=workspace.id, kind=JobKind.EVALUATE, **row))
    migrations.downgrade(engine, "0005")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM jobs")).scalars().all() == [kept.id]
    migrations.upgrade(engine)
    assert must_claim(session, kept).block.stage is Stage.PLAN
