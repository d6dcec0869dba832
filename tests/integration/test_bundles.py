"""Small images share blocks, and stay images of their own all the same."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain import blocks, jobs, progress
from shared.domain.blocks import Claim, ImageOutcome, NewArtifact, Outcome
from shared.domain.dispatch import Dispatcher
from shared.domain.orders import bundles
from shared.schemas.jobs import SeamsOut, SummaryOut
from shared.storage import Stored
from shared.tables import Artifact, Block, Job, JobImage, Workspace
from shared.tables.jobs import ImageState, JobState, Stage
from tests.rows import make_dispatcher, must_claim, submit, work_off

CAUSE = {"type": "input", "detail": "small-1.png: made by the test"}


@pytest.fixture
def dispatcher() -> Dispatcher:
    return make_dispatcher()


def images_of(session: Session, job: Job) -> list[JobImage]:
    query = select(JobImage).where(JobImage.job_id == job.id).order_by(JobImage.ordinal)
    with session.begin():
        return list(session.scalars(query.execution_options(populate_existing=True)))


def stages_of(session: Session, job: Job) -> list[Stage]:
    with session.begin():
        return list(session.scalars(select(Block.stage).where(Block.job_id == job.id).order_by(Block.created_at)))


def reload(session: Session, job: Job) -> Job:
    with session.begin():
        session.refresh(job)
    return job


def bundled(session: Session, claim: Claim) -> list[JobImage]:
    return list(jobs.find_images(session, claim.job, claim.block.spec["images"]))


@pytest.mark.parametrize(("small", "bundles"), [(0, 0), (1, 1), (16, 1), (17, 2), (200, 8), (3000, 12)])
def test_small_images_are_bundled_by_some_hundreds_and_shared_by_several_workers(
    session: Session, dispatcher: Dispatcher, workspace: Workspace, small: int, bundles: int
) -> None:
    job = submit(session, dispatcher, workspace, images=2, small=small)
    assert sorted(stages_of(session, job)) == [Stage.BUNDLE] * bundles + [Stage.PLAN] * 2
    with session.begin():
        specs = session.scalars(select(Block.spec).where(Block.job_id == job.id, Block.stage == Stage.BUNDLE)).all()
    assert sorted(ordinal for spec in specs for ordinal in spec["images"]) == list(range(2, 2 + small))
    assert all(len(spec["images"]) <= 256 for spec in specs)


def test_a_bundle_is_no_more_than_seconds_of_work(
    session: Session, dispatcher: Dispatcher, workspace: Workspace
) -> None:
    images = [JobImage(ordinal=number, bytes=3 * 2**20) for number in range(100)]
    assert {len(bundle) for bundle in bundles.cut(images, views=1)} == {10}, "by their bytes"
    images = [JobImage(ordinal=number, bytes=1) for number in range(3000)]
    assert max(len(bundle) for bundle in bundles.cut(images, views=8)) == 32, "by how often each is predicted"


def test_each_image_of_a_bundle_ends_by_itself(session: Session, dispatcher: Dispatcher, workspace: Workspace) -> None:
    job = submit(session, dispatcher, workspace, images=0, small=3)
    claim = must_claim(session, job)
    first, second, third = bundled(session, claim)
    made = NewArtifact("mask", "small-0.png.mask.tif", "image/tiff", Stored("k", "0" * 64, 1))
    done = ImageOutcome(first.id, facts={"tiles": 1}, result={"skipped_tiles": 0, "seams": None}, artifacts=[made])
    ended = [done, ImageOutcome(second.id, error=CAUSE), ImageOutcome(third.id)]
    assert blocks.commit(session, dispatcher, claim, Outcome(images=ended))
    first, second, third = images_of(session, job)
    assert [image.state for image in (first, second, third)] == [ImageState.DONE, ImageState.FAILED, ImageState.DONE]
    assert (first.facts, second.error) == ({"tiles": 1}, CAUSE)
    with session.begin():
        assert session.scalars(select(Artifact.image_id).where(Artifact.job_id == job.id)).all() == [first.id]
    assert [claim.block.stage for claim in work_off(session, dispatcher, job)] == [Stage.SUMMARISE, Stage.CLOSE]
    assert reload(session, job).state is JobState.PARTIAL
    assert job.error is not None
    assert job.error["detail"] == f"1 of 3 images failed; the first: {CAUSE['detail']}"


def test_an_image_too_large_for_its_bundle_is_planned_alone(
    session: Session, dispatcher: Dispatcher, workspace: Workspace
) -> None:
    job = submit(session, dispatcher, workspace, images=0, small=2)
    claim = must_claim(session, job)
    small, large = bundled(session, claim)
    assert blocks.commit(session, dispatcher, claim, Outcome(images=[ImageOutcome(small.id)]))
    plan = must_claim(session, job)
    assert plan.image is not None
    assert (plan.block.stage, plan.image.id) == (Stage.PLAN, large.id)
    assert blocks.give_back(session, dispatcher, plan)
    assert [claim.block.stage for claim in work_off(session, dispatcher, job, regions=1)] == [
        Stage.PLAN,
        Stage.PREDICT,
        Stage.DIVIDE,
        Stage.LABEL,
        Stage.ASSEMBLE,
        Stage.SUMMARISE,
        Stage.CLOSE,
    ]
    assert reload(session, job).state is JobState.SUCCEEDED


def test_a_bundle_that_is_given_up_fails_no_image(
    session: Session, dispatcher: Dispatcher, workspace: Workspace
) -> None:
    """One of its images may end every process that touches it: the others must not share its fate."""
    job = submit(session, dispatcher, workspace, images=0, small=2)
    claim = must_claim(session, job)
    assert blocks.fail(session, dispatcher, claim, CAUSE, attempts=1)
    assert [image.state for image in images_of(session, job)] == [ImageState.PENDING] * 2
    poison = must_claim(session, job)
    assert poison.block.stage is Stage.PLAN
    assert blocks.fail(session, dispatcher, poison, CAUSE, attempts=1)
    list(work_off(session, dispatcher, job))
    assert reload(session, job).state is JobState.PARTIAL
    assert sorted(image.state for image in images_of(session, job)) == [ImageState.DONE, ImageState.FAILED]


def test_a_cancelled_bundle_keeps_what_it_made_and_adds_nothing(
    session: Session, dispatcher: Dispatcher, workspace: Workspace
) -> None:
    job = submit(session, dispatcher, workspace, images=0, small=2)
    claim = must_claim(session, job)
    done, _ = bundled(session, claim)
    jobs.cancel(session, workspace.id, job.id)
    assert blocks.commit(session, dispatcher, claim, Outcome(images=[ImageOutcome(done.id)]))
    assert reload(session, job).state is JobState.CANCELLED
    assert [image.state for image in images_of(session, job)] == [ImageState.DONE, ImageState.CANCELLED]


def test_a_jobs_summary_is_that_of_its_images(session: Session, dispatcher: Dispatcher, workspace: Workspace) -> None:
    job = submit(session, dispatcher, workspace, images=0, small=4)
    assert progress.summarise(session, job) is None
    claim = must_claim(session, job)
    first, second, third, failed = bundled(session, claim)
    seams = [{"windows": 1, "largest": 1, "mean": 0.5}, {"windows": 3, "largest": 2, "mean": 0.1}, None]
    ended = [
        ImageOutcome(image.id, facts={"tiles": 10}, result={"skipped_tiles": 4, "seams": measured})
        for image, measured in zip((first, second, third), seams, strict=True)
    ]
    blocks.commit(session, dispatcher, claim, Outcome(images=[*ended, ImageOutcome(failed.id, error=CAUSE)]))
    expected = SummaryOut(tiles=30, skipped_tiles=12, seams=SeamsOut(windows=4, largest=2, mean=0.2))
    assert progress.summarise(session, job) == expected
