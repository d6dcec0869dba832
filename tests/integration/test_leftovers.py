"""What a job wrote for itself alone goes, once the job is over, whatever its end; its artifacts stay."""

from collections.abc import Callable, Sequence

import pytest
from sqlalchemy.orm import Session

from services.worker.settings import SweeperSettings
from services.worker.tidying import tidy
from shared.domain import blocks, jobs, leftovers
from shared.domain.blocks import NewArtifact, Outcome
from shared.domain.dispatch import Dispatcher
from shared.errors import Unavailable
from shared.settings import Settings
from shared.storage import Storage, job_key
from shared.tables import Job, Workspace
from shared.tables.jobs import JobKind, JobState
from tests.rows import must_claim, outcome_of, submit, work_off


class Failing(Storage):
    """A store that is away after it has removed some pages."""

    def __init__(self, settings: Settings, *, pages: int) -> None:
        super().__init__(settings)
        self._pages = pages

    def delete_many(self, keys: Sequence[str]) -> None:
        if self._pages == 0:
            raise Unavailable("the object store did not answer")
        self._pages -= 1
        super().delete_many(keys)


@pytest.fixture
def job(session: Session, dispatcher: Dispatcher, workspace: Workspace) -> Job:
    return submit(session, dispatcher, workspace)


@pytest.fixture
def names(storage: Storage, job: Job) -> Callable[[], list[str]]:
    """What lies in the store of the job."""
    return lambda: [found.key.removeprefix(job_key(job.id, "")) for found in storage.list_objects(job_key(job.id, ""))]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "PAGE", 2)


def put(storage: Storage, job: Job, *names: str) -> None:
    for name in names:
        storage.put(job_key(job.id, name), b"cells")


def finish(session: Session, dispatcher: Dispatcher, storage: Storage, job: Job) -> None:
    """The job succeeds, with an artifact `kept`."""
    claim = must_claim(session, job)
    made = NewArtifact("mask", "kept", "image/tiff", storage.put(job_key(job.id, "kept"), b"cells"))
    assert blocks.commit(session, dispatcher, claim, Outcome(outcome_of(claim).result, artifacts=[made]))
    for _ in work_off(session, dispatcher, job):
        pass
    with session.begin():
        session.refresh(job)
    assert job.state is JobState.SUCCEEDED


def test_of_a_job_that_is_over_nothing_stays_but_its_artifacts(
    session: Session, dispatcher: Dispatcher, storage: Storage, job: Job, names: Callable[[], list[str]]
) -> None:
    put(storage, job, "parts/0-0", "parts/0-1")
    finish(session, dispatcher, storage, job)
    assert leftovers.remove(session, storage, seconds=0) == 1
    assert names() == ["kept"]


def test_a_job_is_looked_at_once(session: Session, dispatcher: Dispatcher, storage: Storage, job: Job) -> None:
    finish(session, dispatcher, storage, job)
    leftovers.remove(session, storage, seconds=0)
    assert leftovers.remove(session, storage, seconds=0) == 0


def test_a_job_that_was_cancelled_leaves_nothing(
    session: Session, storage: Storage, workspace: Workspace, job: Job, names: Callable[[], list[str]]
) -> None:
    put(storage, job, "parts/0-0")
    jobs.cancel(session, workspace.id, job.id)
    leftovers.remove(session, storage, seconds=0)
    assert names() == []


def test_nothing_is_taken_from_a_job_that_is_not_over(
    session: Session, storage: Storage, job: Job, names: Callable[[], list[str]]
) -> None:
    put(storage, job, "parts/0-0")
    assert leftovers.remove(session, storage, seconds=0) == 0
    assert names() == ["parts/0-0"]


def test_a_job_that_ended_just_now_is_left_to_those_who_still_write(
    session: Session, dispatcher: Dispatcher, storage: Storage, job: Job, names: Callable[[], list[str]]
) -> None:
    put(storage, job, "parts/0-0")
    finish(session, dispatcher, storage, job)
    assert leftovers.remove(session, storage, seconds=3600) == 0
    assert names() == ["kept", "parts/0-0"]


def test_what_other_jobs_wrote_is_all_wanted(
    session: Session, dispatcher: Dispatcher, storage: Storage, job: Job, names: Callable[[], list[str]]
) -> None:
    put(storage, job, "snapshot")
    finish(session, dispatcher, storage, job)
    with session.begin():
        session.get_one(Job, job.id).kind = JobKind.TRAIN
    assert leftovers.remove(session, storage, seconds=0) == 0
    assert names() == ["kept", "snapshot"]


@pytest.mark.usefixtures("small_pages")
def test_tidying_goes_on_where_it_was_broken_off(
    session: Session,
    dispatcher: Dispatcher,
    settings: Settings,
    storage: Storage,
    job: Job,
    names: Callable[[], list[str]],
) -> None:
    put(storage, job, *(f"parts/{number}" for number in range(5)))
    finish(session, dispatcher, storage, job)
    assert leftovers.remove(session, Failing(settings, pages=1), seconds=0) == 0
    assert len(names()) == 5, "one page, of an artifact and a part, is done"
    assert leftovers.remove(session, storage, seconds=0) == 1
    assert names() == ["kept"]


def test_a_round_of_tidying_removes_leftovers(
    session: Session, dispatcher: Dispatcher, settings: Settings, storage: Storage, job: Job
) -> None:
    finish(session, dispatcher, storage, job)
    sweeping = SweeperSettings.model_validate({**settings.model_dump(), "leave_seconds": 0})
    assert tidy(session, storage, sweeping).jobs == 1
