"""What is deleted is gone, what is shared stays, and nobody loses bytes that are wanted again at the same moment."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from shared.database import Sessions
from shared.domain import collection, datasets, jobs, objects, sealing
from shared.domain.objects import Content
from shared.errors import Conflict, Invalid, NotFound
from shared.schemas.datasets import FileIn
from shared.settings import Settings
from shared.storage import Listed, Storage
from shared.tables import Dataset, DatasetFile, DatasetVersion, StoredObject, Workspace
from tests.rows import make_dispatcher, submit

BODY = b"cells"
FILE = FileIn(name="a.png", sha256=hashlib.sha256(BODY).hexdigest(), bytes=len(BODY))
CONTENT = Content(FILE.sha256, FILE.bytes)
HOUR = 3600.0
PATIENCE = 20  # seconds, for what takes milliseconds


class Paused(Storage):
    """A store that waits for the test at one kind of request."""

    def __init__(self, settings: Settings, *, at: str) -> None:
        super().__init__(settings)
        self._at = at
        self.reached, self.go_on = threading.Event(), threading.Event()

    def _wait(self, request: str) -> None:
        if request == self._at:
            self.reached.set()
            assert self.go_on.wait(PATIENCE)

    def delete(self, key: str) -> None:
        self._wait("delete")
        super().delete(key)

    def look(self, key: str, *, bucket: str | None = None) -> Listed | None:
        self._wait("look")
        return super().look(key, bucket=bucket)


@pytest.fixture
def dataset(session: Session, workspace: Workspace) -> Dataset:
    return datasets.create(session, workspace.id, "cohort")


def store(session: Session, storage: Storage, workspace_id: UUID) -> str:
    """An object that was uploaded long ago and that no file refers to; its key."""
    row = objects.announce(session, workspace_id, [CONTENT])[FILE.sha256]
    storage.put(row.key, BODY)
    age(session)
    return row.key


def age(session: Session) -> None:
    """As if everything had been wanted long ago."""
    with session.begin():
        session.execute(update(StoredObject).values(wanted_at=func.now() - func.make_interval(0, 0, 0, 3)))


def seal(sessions: Sessions, storage: Storage, dataset_id: UUID) -> DatasetVersion | None:
    """The version, None if the bytes are gone and have to be sent again."""
    with sessions() as session:
        with session.begin():
            dataset = session.get_one(Dataset, dataset_id)
        try:
            return sealing.seal(session, storage, dataset, [FILE])[0]
        except Invalid:
            return None


def collect(sessions: Sessions, storage: Storage) -> int:
    with sessions() as session:
        return collection.collect(session, storage, seconds=HOUR)


def test_a_deleted_version_is_gone_and_its_number_is_not_given_again(
    session: Session, storage: Storage, dataset: Dataset, sessions: Sessions
) -> None:
    store(session, storage, dataset.workspace_id)
    assert seal(sessions, storage, dataset.id) is not None
    collection.delete_version(session, dataset.workspace_id, dataset.id, 1)
    with session.begin():
        assert session.scalars(select(DatasetFile)).all() == []
    with pytest.raises(NotFound):
        collection.delete_version(session, dataset.workspace_id, dataset.id, 1)
    again = seal(sessions, storage, dataset.id)
    assert again is not None
    assert again.number == 2


def test_a_version_is_not_deleted_while_a_job_uses_it(session: Session, workspace: Workspace) -> None:
    lab, job = workspace.id, submit(session, make_dispatcher(), workspace)
    job_id, version_id = job.id, UUID(job.spec["dataset_version"]["id"])
    with session.begin():
        dataset_id = session.get_one(DatasetVersion, version_id).dataset_id
    with pytest.raises(Conflict, match=f"segment job {job_id}"):
        collection.delete_version(session, lab, dataset_id, 1)
    with pytest.raises(Conflict, match=f"segment job {job_id}"):
        collection.delete_dataset(session, lab, dataset_id)
    jobs.cancel(session, lab, job_id)
    collection.delete_dataset(session, lab, dataset_id)
    with session.begin():
        assert session.scalars(select(Dataset)).all() == []


def test_a_version_that_an_order_is_about_to_use_is_not_deleted_under_it(
    session: Session, sessions: Sessions, storage: Storage, dataset: Dataset
) -> None:
    store(session, storage, dataset.workspace_id)
    version = seal(sessions, storage, dataset.id)
    assert version is not None
    with ThreadPoolExecutor(1) as pool, sessions() as other:
        with session.begin():
            datasets.find_version(session, dataset.workspace_id, version.id)
            deletion = pool.submit(collection.delete_version, other, dataset.workspace_id, dataset.id, 1)
            wait_for_lock(sessions)
            assert not deletion.done()
        deletion.result(PATIENCE)


def test_the_api_deletes_and_knows_no_more_of_it(client: TestClient, session: Session, storage: Storage) -> None:
    made = client.post("/v1/datasets", json={"name": "cohort"}).json()["id"]
    with session.begin():
        owner = session.get_one(Dataset, UUID(made)).workspace_id
    store(session, storage, owner)
    assert client.post(f"/v1/datasets/{made}/versions", json={"files": [FILE.model_dump()]}).status_code == 201
    assert client.delete(f"/v1/datasets/{made}/versions/1").status_code == 204
    assert client.get(f"/v1/datasets/{made}/versions").json()["items"] == []
    assert client.delete(f"/v1/datasets/{made}/versions/1").status_code == 404
    assert client.delete(f"/v1/datasets/{made}").status_code == 204
    assert client.get(f"/v1/datasets/{made}").status_code == 404


def test_an_object_is_collected_once_nothing_refers_to_it_and_nobody_wants_it(
    session: Session, sessions: Sessions, storage: Storage, dataset: Dataset
) -> None:
    key = store(session, storage, dataset.workspace_id)
    seal(sessions, storage, dataset.id)
    age(session)
    assert collect(sessions, storage) == 0, "a file refers to it"
    collection.delete_version(session, dataset.workspace_id, dataset.id, 1)
    objects.announce(session, dataset.workspace_id, [CONTENT])
    assert collect(sessions, storage) == 0, "it was asked for a moment ago"
    age(session)
    assert (collect(sessions, storage), collect(sessions, storage)) == (1, 0)
    assert storage.look(key) is None


def test_an_object_that_another_dataset_holds_outlives_the_deletion_of_the_first(
    session: Session, sessions: Sessions, storage: Storage, dataset: Dataset
) -> None:
    key = store(session, storage, dataset.workspace_id)
    other = datasets.create(session, dataset.workspace_id, "other")
    for each in (dataset, other):
        seal(sessions, storage, each.id)
    collection.delete_dataset(session, dataset.workspace_id, dataset.id)
    age(session)
    assert collect(sessions, storage) == 0
    assert storage.get(key) == BODY


def test_a_collector_that_was_killed_halfway_is_made_up_for(
    session: Session, sessions: Sessions, storage: Storage, workspace: Workspace
) -> None:
    storage.delete(store(session, storage, workspace.id))
    assert collect(sessions, storage) == 1
    with session.begin():
        assert session.scalars(select(StoredObject)).all() == []


def test_who_seals_bytes_that_are_being_collected_is_told_to_send_them_again(
    session: Session, sessions: Sessions, settings: Settings, storage: Storage, dataset: Dataset
) -> None:
    store(session, storage, dataset.workspace_id)
    paused = Paused(settings, at="delete")
    with ThreadPoolExecutor(2) as pool:
        collected = pool.submit(collect, sessions, paused)
        assert paused.reached.wait(PATIENCE)
        version = pool.submit(seal, sessions, storage, dataset.id)
        wait_for_lock(sessions)
        paused.go_on.set()
        assert (collected.result(PATIENCE), version.result(PATIENCE)) == (1, None)


def test_who_asks_to_upload_bytes_that_are_being_collected_is_given_a_row_of_its_own(
    session: Session, sessions: Sessions, settings: Settings, storage: Storage, workspace: Workspace
) -> None:
    store(session, storage, workspace.id)
    paused = Paused(settings, at="delete")
    with ThreadPoolExecutor(2) as pool, sessions() as other:
        collected = pool.submit(collect, sessions, paused)
        assert paused.reached.wait(PATIENCE)
        announced = pool.submit(objects.announce, other, workspace.id, [CONTENT])
        wait_for_lock(sessions)
        paused.go_on.set()
        assert collected.result(PATIENCE) == 1
        kept = announced.result(PATIENCE)[FILE.sha256].id
    with session.begin():
        assert session.scalars(select(StoredObject.id)).all() == [kept]


def test_bytes_that_are_being_sealed_are_not_collected(
    session: Session, sessions: Sessions, settings: Settings, storage: Storage, dataset: Dataset
) -> None:
    key = store(session, storage, dataset.workspace_id)
    paused = Paused(settings, at="look")
    with ThreadPoolExecutor(1) as pool:
        version = pool.submit(seal, sessions, paused, dataset.id)
        assert paused.reached.wait(PATIENCE)
        assert collect(sessions, storage) == 0
        paused.go_on.set()
        assert version.result(PATIENCE) is not None
    assert storage.get(key) == BODY


def test_whoever_is_faster_no_version_is_left_without_its_bytes(
    session: Session, sessions: Sessions, storage: Storage, workspace: Workspace
) -> None:
    for number in range(20):
        dataset = datasets.create(session, workspace.id, f"cohort-{number}")
        key = store(session, storage, workspace.id)
        collecting = partial(collect, sessions, storage)
        version, *_ = run_at_once(partial(seal, sessions, storage, dataset.id), collecting, collecting)
        assert (version is None) == (storage.look(key) is None)
        collection.delete_dataset(session, workspace.id, dataset.id)


def run_at_once(*works: Callable[[], Any]) -> list[Any]:
    start = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        start.wait(PATIENCE)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def wait_for_lock(sessions: Sessions) -> None:
    """Until somebody waits for a row that another transaction holds."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    pause = threading.Event()
    for _ in range(100 * PATIENCE):
        with sessions() as session, session.begin():
            if session.scalar(text(query)):
                return
        pause.wait(0.01)
    raise AssertionError("nobody waited")
