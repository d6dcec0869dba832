"""Orders, seals and deletions that meet at one dataset: each waits for the other, and none for ever."""

import hashlib
from collections.abc import Callable
from functools import partial
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session

from shared.database import Sessions
from shared.domain import collection, datasets, jobs, objects, sealing
from shared.domain.dispatch import Dispatcher
from shared.domain.objects import Content
from shared.errors import Conflict, NotFound, OvertileError
from shared.schemas.datasets import FileIn
from shared.schemas.ingest import IngestIn
from shared.storage import Storage
from shared.tables import DatasetVersion, Workspace
from tests.dataset_jobs import order_ingest, run_ingest
from tests.integration.test_deletion import run_at_once
from tests.rows import make_dispatcher

FILES = [FileIn(name=n, sha256=hashlib.sha256(n.encode()).hexdigest(), bytes=5) for n in ("a.png", "b.png")]
ROUNDS = 6  # so that they meet at different moments


@pytest.fixture
def dispatcher() -> Dispatcher:
    return make_dispatcher()


@pytest.fixture
def make_ready(
    session: Session, storage: Storage, dispatcher: Dispatcher, workspace: Workspace
) -> Callable[[], DatasetVersion]:
    """A version of a new dataset, ingested."""
    rows = objects.announce(session, workspace.id, [Content(file.sha256, file.bytes) for file in FILES])
    for file in FILES:
        storage.put(rows[file.sha256].key, file.name.encode())

    def make() -> DatasetVersion:
        dataset = datasets.create(session, workspace.id, uuid4().hex)
        version, _ = sealing.seal(session, storage, dataset, FILES[:1])
        run_ingest(session, dispatcher, order_ingest(session, dispatcher, version), ["a.png"])
        return version

    return make


def act(sessions: Sessions, do: Callable[[Session], object]) -> str:
    """What came of it; what nobody planned for is raised."""
    with sessions() as session:
        try:
            do(session)
        except OvertileError as error:
            return type(error).__name__
    return "done"


def order(workspace_id: UUID, version_id: UUID, masks: str, session: Session) -> None:
    ingest = IngestIn.model_validate({"kind": "ingest", "dataset_version": version_id, "masks": masks})
    jobs.submit(session, make_dispatcher(), workspace_id, ingest, key=uuid4().hex)


def test_of_orders_to_read_a_version_at_once_one_is_taken_and_the_others_are_told_to_wait(
    sessions: Sessions, make_ready: Callable[[], DatasetVersion]
) -> None:
    for _ in range(ROUNDS):
        version = make_ready()
        reading = partial(order, version.workspace_id, version.id, "binary")
        found = run_at_once(*[partial(act, sessions, reading)] * 3)
        assert sorted(found) == [Conflict.__name__, Conflict.__name__, "done"]


def test_a_dataset_is_deleted_or_read_in_another_way_but_not_half_of_each(
    sessions: Sessions, make_ready: Callable[[], DatasetVersion]
) -> None:
    for _ in range(ROUNDS):
        version = make_ready()
        lab, dataset_id = version.workspace_id, version.dataset_id
        found = run_at_once(
            partial(act, sessions, partial(order, lab, version.id, "binary")),
            partial(act, sessions, partial(collection.delete_dataset, workspace_id=lab, dataset_id=dataset_id)),
        )
        assert found in (["done", Conflict.__name__], [NotFound.__name__, "done"])


def test_a_version_is_sealed_while_another_is_read_and_a_third_deleted(
    sessions: Sessions, storage: Storage, make_ready: Callable[[], DatasetVersion]
) -> None:
    def seal(session: Session, version: DatasetVersion) -> None:
        dataset = datasets.get(session, version.workspace_id, version.dataset_id)
        sealing.seal(session, storage, dataset, FILES)

    for _ in range(ROUNDS):
        version = make_ready()
        lab, dataset_id = version.workspace_id, version.dataset_id
        deletion = partial(collection.delete_version, workspace_id=lab, dataset_id=dataset_id, number=2)
        found = run_at_once(
            partial(act, sessions, partial(order, lab, version.id, "binary")),
            partial(act, sessions, partial(seal, version=version)),
            partial(act, sessions, deletion),
        )
        assert found[:2] == ["done", "done"]
        assert found[2] in ("done", Conflict.__name__, NotFound.__name__)


def test_what_is_sealed_into_a_dataset_that_was_deleted_meanwhile_is_not_found(
    session: Session, sessions: Sessions, storage: Storage, make_ready: Callable[[], DatasetVersion]
) -> None:
    version = make_ready()
    dataset = datasets.get(session, version.workspace_id, version.dataset_id)
    with sessions() as other:
        collection.delete_dataset(other, version.workspace_id, version.dataset_id)
    with pytest.raises(NotFound, match="there is no dataset"):
        sealing.seal(session, storage, dataset, FILES)
