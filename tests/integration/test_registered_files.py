"""Files that lie in a lab's own bucket, from their registration to their reading: they may be replaced at any time."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.worker.staging import Staging
from shared.database import Sessions
from shared.domain import collection, datasets, objects, sealing, sources, versions
from shared.domain.objects import Verified
from shared.errors import Missing
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import Dataset, DatasetFile, DatasetVersion, Source, StoredObject, Workspace
from tests.integration.test_deletion import wait_for_lock
from tests.integration.test_sources import Bucket

PATIENCE = 20  # seconds, for what takes milliseconds

Register = Callable[[], DatasetVersion]
Read = Callable[[DatasetVersion], None]


@pytest.fixture
def bucket(settings: Settings) -> Bucket:
    bucket = Bucket(settings)
    bucket.put({"cohort/a.png": b"cells", "cohort/b.png": b"bees"})
    return bucket


@pytest.fixture
def source(session: Session, workspace: Workspace, bucket: Bucket) -> Source:
    return sources.add(session, workspace.id, "scanner", f"s3://{bucket.name}/", own_bucket="overtile")


@pytest.fixture
def dataset(session: Session, workspace: Workspace) -> Dataset:
    return datasets.create(session, workspace.id, "cohort")


@pytest.fixture
def register(session: Session, storage: Storage, dataset: Dataset, source: Source) -> Register:
    return lambda: sealing.register(session, storage, dataset, source, path="cohort")[0]


@pytest.fixture
def read(session: Session, storage: Storage, tmp_path: Path) -> Read:
    """Read every file of a version, and note what it is, as ingest does."""
    staging = Staging(storage, tmp_path, limit=10**9)

    def read_files(version: DatasetVersion) -> None:
        found: dict[UUID, Verified] = {}
        for file in files_of(session, version).values():
            with staging.hold(file) as held:
                found[file.object_id] = Verified(held.sha256, held.etag)
        with session.begin():
            objects.mark_verified(session, found)

    return read_files


def test_a_file_that_was_replaced_before_it_was_read_is_refused(bucket: Bucket, register: Register, read: Read) -> None:
    version = register()
    bucket.put({"cohort/b.png": b"bee"})  # fewer bytes than were registered: only its tag tells
    with pytest.raises(Missing, match=r"b\.png: the file was replaced in its bucket .* register the folder again"):
        read(version)


def test_a_file_that_was_replaced_after_it_was_read_is_refused_and_stays_where_it_is(
    session: Session, storage: Storage, tmp_path: Path, bucket: Bucket, register: Register, read: Read
) -> None:
    version = register()
    read(version)
    bucket.put({"cohort/b.png": b"wasp"})
    staging = Staging(storage, tmp_path / "other", limit=10**9)
    with pytest.raises(Missing, match="was replaced in its bucket"), staging.hold(files_of(session, version)["b.png"]):
        raise AssertionError("it was read")
    assert "cohort/b.png" in bucket.keys()  # noqa: SIM118  # the bucket's, not a mapping's


def test_a_file_that_was_taken_away_is_said_to_be(bucket: Bucket, register: Register, read: Read) -> None:
    version = register()
    bucket.remove("cohort/a.png")
    with pytest.raises(Missing, match=r"a\.png: the file is not in its bucket any more; put it back"):
        read(version)


def test_who_registers_what_is_being_collected_is_given_rows_of_its_own(
    session: Session, sessions: Sessions, storage: Storage, source: Source, dataset: Dataset, register: Register
) -> None:
    register()
    other = datasets.create(session, dataset.workspace_id, "other")
    collection.delete_dataset(session, dataset.workspace_id, dataset.id)
    with ThreadPoolExecutor(1) as pool, sessions() as collector, sessions() as registering:
        with collector.begin():
            rows = collector.scalars(select(StoredObject).with_for_update()).all()
            made = pool.submit(sealing.register, registering, storage, other, source, path="cohort")
            wait_for_lock(sessions)
            for row in rows:
                collector.delete(row)
        version, _ = made.result(PATIENCE)
    assert list(files_of(session, version)) == ["a.png", "b.png"]


def files_of(session: Session, version: DatasetVersion) -> dict[str, DatasetFile]:
    with session.begin():
        return datasets.files_by_name(session, version.workspace_id, version.id)


def test_versions_before_and_after_a_file_was_replaced_are_both_read_and_share_the_rest(
    session: Session, bucket: Bucket, register: Register, read: Read
) -> None:
    first = register()
    read(first)
    bucket.put({"cohort/b.png": b"bumblebees"})
    second = register()
    read(second)
    assert versions.compare(session, first, second).counts == {"added": 0, "removed": 0, "changed": 1, "same": 1}
    assert files_of(session, second)["b.png"].sha256 == hashlib.sha256(b"bumblebees").hexdigest()


def test_reading_leaves_a_file_the_tag_it_was_registered_by(session: Session, register: Register, read: Read) -> None:
    version = register()
    before = {name: file.object.etag for name, file in files_of(session, version).items()}
    read(version)
    assert {name: file.object.etag for name, file in files_of(session, version).items()} == before
    assert all(before.values())
