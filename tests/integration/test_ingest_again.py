"""A version that is ingested again: in another way, or because the first time something was missing."""

import pytest
from sqlalchemy.orm import Session

from shared.domain import jobs, manifests
from shared.domain.blocks import Outcome
from shared.domain.dispatch import Dispatcher
from shared.errors import Conflict, Invalid
from shared.schemas.manifests import FILE_MISSING
from shared.tables import DatasetVersion, Job, Workspace
from shared.tables.datasets import VersionState
from shared.tables.jobs import JobState, Stage
from tests.dataset_jobs import (
    commit,
    manifest_of,
    order_ingest,
    order_preprocess,
    run_ingest,
    run_preprocess,
    state_of,
)
from tests.rows import add_version, must_claim

MISSING = {"code": FILE_MISSING, "severity": "error", "text": "small-b.png: its bytes are gone; upload it again"}


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


def test_reading_in_two_ways_by_turns_goes_between_two_versions(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion
) -> None:
    read = []
    newest = ready
    for masks in ("binary", "auto", "binary", "auto"):
        job = order_ingest(session, dispatcher, newest, masks=masks)
        if not job.spec["known"]:
            run_ingest(session, dispatcher, job, ["small-a.png"])
        newest = result_of(session, job)
        read.append(newest.number)
    assert read == [2, 1, 2, 1]


def test_a_version_read_in_another_way_keeps_its_steps_its_counts_and_what_it_was_made_from(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion
) -> None:
    made = order_preprocess(session, dispatcher, ready, "greyscale")
    run_preprocess(session, dispatcher, made)
    first = result_of(session, made)
    with session.begin():
        session.get_one(DatasetVersion, first.id).images = 7  # a folder that is one image counts once
    again = order_ingest(session, dispatcher, first, masks="binary")
    run_ingest(session, dispatcher, again, ["images/a.png"])
    copy = result_of(session, again)
    assert copy.number == first.number + 1
    assert (copy.steps, copy.images, copy.masks) == (first.steps, 7, first.masks)
    assert copy.origin["preprocess"] == first.origin["preprocess"]
    assert copy.origin["ingest"]["masks"] == "binary"


def test_a_cancelled_ingest_of_an_invalid_version_leaves_it_invalid(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    first = order_ingest(session, dispatcher, version)
    run_ingest(session, dispatcher, first, ["small-a.png"], failed=["small-a.png"])
    again = order_ingest(session, dispatcher, version, layout="plain")
    jobs.cancel(session, version.workspace_id, again.id)
    assert state_of(session, version) is VersionState.INVALID
    assert version.job_id == first.id, "whose report says why"
    assert manifest_of(session, version) == {"small-a.png": "rejected"}


@pytest.fixture
def lacking(session: Session, dispatcher: Dispatcher, version: DatasetVersion) -> DatasetVersion:
    """Ready, without an image whose bytes were missing."""
    job = order_ingest(session, dispatcher, version)
    names = ["small-a.png", "small-b.png"]
    run_ingest(session, dispatcher, job, names, failed=["small-b.png"], problems=[MISSING])
    return version


def test_a_version_that_lacks_images_as_bytes_were_missing_is_ingested_again_as_another(
    session: Session, dispatcher: Dispatcher, lacking: DatasetVersion
) -> None:
    job = order_ingest(session, dispatcher, lacking)
    run_ingest(session, dispatcher, job, ["small-a.png", "small-b.png"])
    mended = result_of(session, job)
    assert manifest_of(session, mended) == {"small-a.png": "accepted", "small-b.png": "accepted"}
    assert manifest_of(session, lacking)["small-b.png"] == "rejected", "a manifest never changes"
    again = order_ingest(session, dispatcher, lacking)
    assert (again.spec["known"], result_of(session, again).id) == (True, mended.id)


def test_a_version_whose_images_are_all_unsound_for_good_is_not_ingested_for_nothing(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    names, damaged = ["small-a.png", "small-b.png"], {**MISSING, "code": "image_unreadable"}
    job = order_ingest(session, dispatcher, version)
    run_ingest(session, dispatcher, job, names, failed=["small-b.png"], problems=[damaged])
    assert order_ingest(session, dispatcher, version).spec["known"]


def test_what_is_being_made_up_for_is_waited_for(
    session: Session, dispatcher: Dispatcher, lacking: DatasetVersion
) -> None:
    order_ingest(session, dispatcher, lacking)
    with pytest.raises(Conflict, match="is being ingested"):
        order_ingest(session, dispatcher, lacking)


def test_bytes_that_are_missing_again_and_again_are_looked_for_each_time(
    session: Session, dispatcher: Dispatcher, lacking: DatasetVersion
) -> None:
    numbers = []
    for _ in range(2):
        job = order_ingest(session, dispatcher, lacking)
        names = ["small-a.png", "small-b.png"]
        run_ingest(session, dispatcher, job, names, failed=["small-b.png"], problems=[MISSING])
        numbers.append(result_of(session, job).number)
    assert numbers == [2, 3]


def test_a_version_that_lacks_images_is_not_taken_for_a_whole_one_by_preprocess(
    session: Session, dispatcher: Dispatcher, workspace: Workspace, lacking: DatasetVersion
) -> None:
    whole = add_version(session, workspace, ["small-a.png", "small-b.png"])
    with session.begin():
        session.get_one(DatasetVersion, whole.id).digest = lacking.digest
    run_ingest(session, dispatcher, order_ingest(session, dispatcher, whole), ["small-a.png", "small-b.png"])
    orders = [order_preprocess(session, dispatcher, version, "greyscale") for version in (lacking, whole)]
    assert orders[0].spec["cache_digest"] != orders[1].spec["cache_digest"]


@pytest.mark.parametrize("place", ["small-b.png", "small-a.png/0001", "val", "val/deep"])
def test_a_split_may_name_files_folders_and_pages(
    session: Session, dispatcher: Dispatcher, workspace: Workspace, place: str
) -> None:
    version = add_version(session, workspace, ["small-a.png", "small-b.png", "val/deep/small.png"])
    job = order_ingest(session, dispatcher, version, splits={place: "test"})
    assert job.spec["parameters"]["splits"] == {place: "test"}


@pytest.mark.parametrize("place", ["small-c.png", "va", "deep", "val/deep/other.png"])
def test_a_split_of_what_is_not_there_is_refused(
    session: Session, dispatcher: Dispatcher, workspace: Workspace, place: str
) -> None:
    version = add_version(session, workspace, ["small-a.png", "small-b.png", "val/deep/small.png"])
    with pytest.raises(Invalid, match=f"neither a folder nor an image of the version: {place}"):
        order_ingest(session, dispatcher, version, splits={place: "test"})


def result_of(session: Session, job: Job) -> DatasetVersion:
    found = manifests.find_result(session, job)
    assert found is not None
    return found


def test_a_layout_that_would_find_nothing_is_refused_with_what_fits(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion
) -> None:
    with pytest.raises(
        Invalid, match="'coco' finds nothing in the files of this version; what fits their names is plain"
    ):
        order_ingest(session, dispatcher, ready, layout="coco")


def test_an_invalid_version_is_not_preprocessed_and_the_report_is_named(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    run_ingest(session, dispatcher, order_ingest(session, dispatcher, version), ["small-a.png"], failed=["small-a.png"])
    with pytest.raises(Conflict, match="its report says why"):
        order_preprocess(session, dispatcher, version, "greyscale")
