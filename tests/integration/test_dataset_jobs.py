"""Ingest as a job: what each block hands on, and what becomes of the dataset version."""

import hashlib

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shared.domain import blocks, collection, datasets, jobs, objects
from shared.domain.blocks import Outcome
from shared.domain.dispatch import Dispatcher
from shared.domain.manifests import NewImage, NewManifest
from shared.domain.objects import Content, Verified
from shared.errors import Conflict, Invalid
from shared.schemas.jobs import SegmentIn
from shared.schemas.training import TrainIn
from shared.storage import Storage
from shared.tables import DatasetFile, DatasetVersion, JobImage, Workspace
from shared.tables.datasets import FileRole, VersionState
from shared.tables.jobs import JobState, Stage
from tests.dataset_jobs import ERROR, commit, end_images, manifest_of, order_ingest, row, run_ingest, state_of
from tests.rows import add_model, add_version, must_claim


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
    closing = must_claim(session, job)
    assert closing.block.stage is Stage.CLOSE
    commit(session, dispatcher, closing, Outcome())
    assert state_of(session, job) is JobState.FAILED
    assert state_of(session, version) is VersionState.SEALED


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


def test_slides_whose_masks_are_outlines_are_segmented_but_not_learnt_from(
    session: Session, dispatcher: Dispatcher, workspace: Workspace, version: DatasetVersion
) -> None:
    job = order_ingest(session, dispatcher, version)
    outlined = {"mask": "a.geojson", "mask_kind": "geojson"}
    run_ingest(session, dispatcher, job, ["small-a.png", "small-b.png"], **outlined)
    add_model(session, workspace, "nuclei")
    segment = SegmentIn(kind="segment", dataset_version=version.id, model="nuclei")
    assert jobs.submit(session, dispatcher, workspace.id, segment, key="s").state is JobState.QUEUED
    train = TrainIn(kind="train", dataset_version=version.id, model="learnt")
    with pytest.raises(Invalid, match=r"2 images, such as small-a\.png, are outlines .* the step `tile`"):
        jobs.submit(session, dispatcher, workspace.id, train, key="t")


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


def test_what_a_job_announced_is_kept_until_the_job_is_over(
    session: Session, storage: Storage, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    body = b"a label image that waits for its report"
    derived = Content(hashlib.sha256(body).hexdigest(), len(body))
    job = order_ingest(session, dispatcher, version)
    stored = objects.announce(session, version.workspace_id, [derived])[derived.sha256]
    storage.put(stored.key, body)
    assert collection.collect(session, storage, seconds=-1) == 0, "however long the job takes"
    jobs.cancel(session, version.workspace_id, job.id)
    assert collection.collect(session, storage, seconds=-1) == 1


def test_what_was_wanted_before_a_job_began_is_not_kept_for_it(
    session: Session, storage: Storage, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    objects.announce(session, version.workspace_id, [Content("f" * 64, 5)])
    order_ingest(session, dispatcher, version)
    assert collection.collect(session, storage, seconds=-1) == 1


def test_nothing_is_learnt_from_an_invalid_version(
    session: Session, dispatcher: Dispatcher, workspace: Workspace
) -> None:
    names = ["small-a.png", "small-b.png", "masks/small-a.png", "masks/small-b.png"]
    version = add_version(session, workspace, names)
    run_ingest(session, dispatcher, order_ingest(session, dispatcher, version), ["a"], failed=["a"])
    with pytest.raises(Conflict, match="is invalid"):
        order_training(session, dispatcher, version)


def test_nothing_is_learnt_from_files_that_nobody_has_read(
    session: Session, dispatcher: Dispatcher, workspace: Workspace
) -> None:
    names = ["small-a.png", "small-b.png", "masks/small-a.png", "masks/small-b.png"]
    version = add_version(session, workspace, names)
    change_file(session, version, "small-b.png", sha256=None)
    with pytest.raises(Conflict, match=r"small-b\.png is registered in place and was never read: ingest"):
        order_training(session, dispatcher, version)


def test_images_of_several_files_are_used_after_ingest_has_found_out_what_belongs_together(
    session: Session, dispatcher: Dispatcher, workspace: Workspace
) -> None:
    names = ["small-a.png", "small-b.png", "masks/small-a.png", "masks/small-b.png", "x.zarr/.zattrs"]
    version = add_version(session, workspace, names)
    change_file(session, version, "x.zarr/.zattrs", role=FileRole.PART)
    add_model(session, workspace, "nuclei")
    orders: list[SegmentIn | TrainIn] = [
        SegmentIn(kind="segment", dataset_version=version.id, model="nuclei"),
        TrainIn(kind="train", dataset_version=version.id, model="learnt"),
    ]
    lab = workspace.id
    for order in orders:
        with pytest.raises(Conflict, match=r"several files, such as the one of x\.zarr/\.zattrs: ingest it first"):
            jobs.submit(session, dispatcher, lab, order, key="key")


def order_training(session: Session, dispatcher: Dispatcher, version: DatasetVersion) -> None:
    train = TrainIn(kind="train", dataset_version=version.id, model="learnt")
    jobs.submit(session, dispatcher, version.workspace_id, train, key="t")


def change_file(session: Session, version: DatasetVersion, name: str, **columns: object) -> None:
    with session.begin():
        file = update(DatasetFile).where(DatasetFile.version_id == version.id, DatasetFile.name == name)
        session.execute(file.values(columns))
