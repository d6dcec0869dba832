"""Ingest and preprocess as jobs: what each block hands on, and what becomes of the dataset version."""

from collections.abc import Sequence
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain import blocks, datasets, jobs, manifests
from shared.domain.blocks import Claim, ImageOutcome, Outcome
from shared.domain.datasets import VersionFile
from shared.domain.dispatch import Dispatcher
from shared.domain.manifests import NewImage, NewManifest
from shared.domain.objects import Verified
from shared.errors import Conflict
from shared.schemas.ingest import IngestIn, PreprocessIn
from shared.schemas.jobs import SegmentIn
from shared.tables import DatasetImage, DatasetVersion, Job, JobImage, Workspace
from shared.tables.datasets import FileRole, VersionState
from shared.tables.jobs import JobState, Stage
from tests.rows import add_model, add_version, make_dispatcher, must_claim

ERROR = {"type": "input", "detail": "b.png: damaged"}


@pytest.fixture
def dispatcher() -> Dispatcher:
    return make_dispatcher()


def order_ingest(session: Session, dispatcher: Dispatcher, version: DatasetVersion, **how: object) -> Job:
    order = IngestIn.model_validate({"kind": "ingest", "dataset_version": version.id, **how})
    return jobs.submit(session, dispatcher, version.workspace_id, order, key=uuid4().hex)


def order_preprocess(session: Session, dispatcher: Dispatcher, version: DatasetVersion, *steps: str) -> Job:
    wanted = [{"step": step} for step in steps]
    order = PreprocessIn.model_validate({"kind": "preprocess", "dataset_version": version.id, "steps": wanted})
    return jobs.submit(session, dispatcher, version.workspace_id, order, key=uuid4().hex)


def row(name: str, *, accepted: bool = True, split: str | None = None) -> dict[str, object]:
    return {"name": name, "state": "accepted" if accepted else "rejected", "file": name, "split": split}


def commit(session: Session, dispatcher: Dispatcher, claim: Claim, outcome: Outcome) -> None:
    assert blocks.commit(session, dispatcher, claim, outcome)


def end_images(session: Session, job: Job, failed: Sequence[str] = ()) -> Outcome:
    with session.begin():
        images = session.scalars(select(JobImage).where(JobImage.job_id == job.id)).all()
    return Outcome(images=[ImageOutcome(i.id, error=ERROR if i.name in failed else None) for i in images])


def run_ingest(
    session: Session, dispatcher: Dispatcher, job: Job, names: Sequence[str], *, failed: Sequence[str] = ()
) -> None:
    """As a worker would: arrange, examine, report, close."""
    found = [NewImage(name, 10, {"name": name}) for name in names]
    commit(session, dispatcher, must_claim(session, job), Outcome(found=found))
    commit(session, dispatcher, must_claim(session, job), end_images(session, job, failed))
    images = [row(name, accepted=name not in failed) for name in names]
    manifest = NewManifest(layout="plain", summary={"images": len(names)}, images=images)
    claim = must_claim(session, job)
    assert claim.block.stage is Stage.REPORT
    commit(session, dispatcher, claim, Outcome(manifest=manifest))
    commit(session, dispatcher, must_claim(session, job), Outcome())


def state_of(session: Session, row: Job | DatasetVersion) -> object:
    with session.begin():
        session.refresh(row)
        return row.state


def manifest_of(session: Session, version: DatasetVersion) -> dict[str, str]:
    query = select(DatasetImage).where(DatasetImage.version_id == version.id).order_by(DatasetImage.ordinal)
    with session.begin():
        return {image.name: image.state.value for image in session.scalars(query)}


@pytest.fixture
def version(session: Session, workspace: Workspace) -> DatasetVersion:
    return add_version(session, workspace, ["small-a.png", "small-b.png"])


@pytest.fixture
def ready(session: Session, dispatcher: Dispatcher, version: DatasetVersion) -> DatasetVersion:
    run_ingest(session, dispatcher, order_ingest(session, dispatcher, version), ["small-a.png", "small-b.png"])
    return version


def test_an_ingest_arranges_examines_reports_and_closes(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    job = order_ingest(session, dispatcher, version)
    assert state_of(session, version) is VersionState.INGESTING
    run_ingest(session, dispatcher, job, ["small-a.png", "small-b.png"])
    assert state_of(session, job) is JobState.SUCCEEDED
    assert state_of(session, version) is VersionState.READY
    assert manifest_of(session, version) == {"small-a.png": "accepted", "small-b.png": "accepted"}


def test_a_rejected_image_leaves_the_version_ready_and_the_job_partial(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    job = order_ingest(session, dispatcher, version)
    run_ingest(session, dispatcher, job, ["small-a.png", "small-b.png"], failed=["small-b.png"])
    assert state_of(session, job) is JobState.PARTIAL
    assert state_of(session, version) is VersionState.READY


def test_a_version_without_a_sound_image_is_invalid_and_can_be_ingested_again(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    job = order_ingest(session, dispatcher, version)
    run_ingest(session, dispatcher, job, ["small-a.png"], failed=["small-a.png"])
    assert state_of(session, job) is JobState.FAILED
    assert state_of(session, version) is VersionState.INVALID
    again = order_ingest(session, dispatcher, version, layout="plain")
    run_ingest(session, dispatcher, again, ["small-b.png"])
    assert state_of(session, version) is VersionState.READY
    assert list(manifest_of(session, version)) == ["small-b.png"]


def test_a_layout_that_shows_no_image_fails_the_job_and_leaves_the_version_as_it_was(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    job = order_ingest(session, dispatcher, version)
    claim = must_claim(session, job)
    assert blocks.fail(session, dispatcher, claim, {"type": "input", "detail": "no image"}, attempts=1)
    assert must_claim(session, job).block.stage is Stage.CLOSE
    assert state_of(session, version) is VersionState.INGESTING


def test_a_cancelled_ingest_leaves_the_version_sealed(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    job = order_ingest(session, dispatcher, version)
    jobs.cancel(session, version.workspace_id, job.id)
    assert state_of(session, version) is VersionState.SEALED


def test_a_report_that_fails_fails_the_job(session: Session, dispatcher: Dispatcher, version: DatasetVersion) -> None:
    job = order_ingest(session, dispatcher, version)
    commit(session, dispatcher, must_claim(session, job), Outcome(found=[NewImage("small-a.png", 1, {})]))
    commit(session, dispatcher, must_claim(session, job), end_images(session, job))
    assert blocks.fail(session, dispatcher, must_claim(session, job), ERROR, attempts=1)
    commit(session, dispatcher, must_claim(session, job), Outcome())
    assert state_of(session, job) is JobState.FAILED
    assert state_of(session, version) is VersionState.SEALED


def test_a_bundle_that_is_given_up_leaves_its_images_to_go_alone(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    job = order_ingest(session, dispatcher, version)
    found = [NewImage(name, 1, {}) for name in ("a", "b")]
    commit(session, dispatcher, must_claim(session, job), Outcome(found=found))
    assert blocks.fail(session, dispatcher, must_claim(session, job), ERROR, attempts=1)
    alone = [must_claim(session, job) for _ in range(2)]
    assert [(claim.block.stage, claim.image.name) for claim in alone if claim.image] == [
        (Stage.EXAMINE, "a"),
        (Stage.EXAMINE, "b"),
    ]


def test_two_ingests_of_a_version_at_once_are_refused(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    order_ingest(session, dispatcher, version)
    with pytest.raises(Conflict, match="is being ingested by job"):
        order_ingest(session, dispatcher, version)


def test_the_same_ingest_of_a_ready_version_has_nothing_to_do(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion
) -> None:
    job = order_ingest(session, dispatcher, ready)
    commit(session, dispatcher, must_claim(session, job), Outcome())
    assert state_of(session, job) is JobState.SUCCEEDED
    found = manifests.find_result(session, job)
    assert found is not None
    assert found.id == ready.id


def test_a_ready_version_read_in_another_way_is_a_new_version(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion
) -> None:
    job = order_ingest(session, dispatcher, ready, masks="binary")
    run_ingest(session, dispatcher, job, ["small-a.png"])
    found = manifests.find_result(session, job)
    assert found is not None
    assert (found.number, found.parent_id) == (ready.number + 1, ready.id)
    assert list(manifest_of(session, ready)) == ["small-a.png", "small-b.png"], "a manifest never changes"


def test_a_ready_version_read_in_another_way_twice_is_one_new_version(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion
) -> None:
    first = order_ingest(session, dispatcher, ready, masks="binary")
    with pytest.raises(Conflict, match="is being ingested"):
        order_ingest(session, dispatcher, ready, masks="binary")
    assert state_of(session, ready) is VersionState.READY
    run_ingest(session, dispatcher, first, ["small-a.png"])
    again = order_ingest(session, dispatcher, ready, masks="binary")
    assert again.spec["dataset_version"] == first.spec["dataset_version"]
    assert must_claim(session, again).block.stage is Stage.CLOSE


def test_a_segment_job_takes_what_the_manifest_accepted(
    session: Session, dispatcher: Dispatcher, workspace: Workspace, version: DatasetVersion
) -> None:
    job = order_ingest(session, dispatcher, version)
    run_ingest(session, dispatcher, job, ["small-a.png", "small-b.png"], failed=["small-b.png"])
    add_model(session, workspace, "nuclei")
    order = SegmentIn(kind="segment", dataset_version=version.id, model="nuclei")
    segment = jobs.submit(session, dispatcher, workspace.id, order, key="s")
    with session.begin():
        images = session.scalars(select(JobImage).where(JobImage.job_id == segment.id)).all()
    assert [image.name for image in images] == ["small-a.png"]


def test_nothing_can_be_segmented_of_an_invalid_version(
    session: Session, dispatcher: Dispatcher, workspace: Workspace, version: DatasetVersion
) -> None:
    run_ingest(session, dispatcher, order_ingest(session, dispatcher, version), ["a"], failed=["a"])
    add_model(session, workspace, "nuclei")
    order = SegmentIn(kind="segment", dataset_version=version.id, model="nuclei")
    with pytest.raises(Conflict, match="is invalid"):
        jobs.submit(session, dispatcher, workspace.id, order, key="s")


def test_what_ingest_read_is_verified_from_then_on(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    job = order_ingest(session, dispatcher, version)
    commit(session, dispatcher, must_claim(session, job), Outcome(found=[NewImage("small-a.png", 1, {})]))
    commit(session, dispatcher, must_claim(session, job), end_images(session, job))
    read = {"small-a.png": Verified("0" * 64, "tag")}
    manifest = NewManifest(layout="plain", summary={}, images=[row("small-a.png")], read=read)
    commit(session, dispatcher, must_claim(session, job), Outcome(manifest=manifest))
    with session.begin():
        files = datasets.files_by_name(session, version.workspace_id, version.id)
        assert files["small-a.png"].object.verified_at is not None
        assert files["small-a.png"].object.etag == "tag"


def test_only_a_ready_version_can_be_preprocessed(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    with pytest.raises(Conflict, match="ingest it"):
        order_preprocess(session, dispatcher, version, "greyscale")


def run_preprocess(session: Session, dispatcher: Dispatcher, job: Job) -> None:
    commit(session, dispatcher, must_claim(session, job), Outcome(found=[NewImage("small-a.png", 1, {})]))
    commit(session, dispatcher, must_claim(session, job), end_images(session, job))
    files = [VersionFile("images/a.png", "1" * 64, 5, FileRole.IMAGE)]
    manifest = NewManifest(layout="plain", summary={}, images=[row("images/a.png", split="train")], files=files)
    commit(session, dispatcher, must_claim(session, job), Outcome(manifest=manifest))
    commit(session, dispatcher, must_claim(session, job), Outcome())


def test_a_preprocess_makes_a_new_ready_version_that_knows_its_steps(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion
) -> None:
    job = order_preprocess(session, dispatcher, ready, "greyscale", "split")
    run_preprocess(session, dispatcher, job)
    made = manifests.find_result(session, job)
    assert made is not None
    assert (made.state, made.number, made.parent_id) == (VersionState.READY, ready.number + 1, ready.id)
    assert [step["step"] for step in made.steps] == ["greyscale"], "of those that a model carries"
    assert made.origin["preprocess"]["version"]["id"] == str(ready.id)


def test_the_same_steps_again_give_the_same_version_without_work(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion
) -> None:
    first = order_preprocess(session, dispatcher, ready, "greyscale")
    run_preprocess(session, dispatcher, first)
    again = order_preprocess(session, dispatcher, ready, "greyscale")
    claim = must_claim(session, again)
    assert claim.block.stage is Stage.CLOSE
    commit(session, dispatcher, claim, Outcome())
    results = [manifests.find_result(session, job) for job in (first, again)]
    assert results[0] is not None
    assert results[1] is not None
    assert results[0].id == results[1].id


def test_twins_that_preprocess_at_once_make_one_version(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion
) -> None:
    twins = [order_preprocess(session, dispatcher, ready, "greyscale") for _ in range(2)]
    for job in twins:
        run_preprocess(session, dispatcher, job)
    results = [manifests.find_result(session, job) for job in twins]
    assert len({result.id for result in results if result}) == 1
    assert all(state_of(session, job) is JobState.SUCCEEDED for job in twins)
