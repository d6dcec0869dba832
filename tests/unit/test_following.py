"""Who follows a training that is a job: its notes, its snapshots, its run in MLflow."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import torch
from pydantic import SecretStr

from services.trainer import following
from services.trainer.following import SNAPSHOT, JobListener, find_snapshot, track
from services.trainer.history import Epoch
from services.trainer.job import read_order
from services.trainer.reports.mlflow import TrackedRun
from services.trainer.settings import TrainerSettings
from services.trainer.snapshot import Snapshot
from shared.errors import Cancelled, Draining, LeaseLost, NotFound, OvertileError, Rejected, Unavailable
from shared.schemas.training import TrainIn
from shared.storage import Stored, job_key
from tests.unit.reports.histories import make_history

JOB = UUID(int=7)
ORDER = TrainIn.model_validate({"kind": "train", "recipe": "nuclei-starter", "dataset": "cohort-7@1", "epochs": 9})
EPOCHS = make_history(3)


class FakeWork:
    """A block that is held, until `trouble` says otherwise. Keeps what it is told, in order."""

    def __init__(self) -> None:
        spec = {"parameters": ORDER.model_dump(mode="json")}
        self.claim = SimpleNamespace(job=SimpleNamespace(id=JOB, spec=spec), block=SimpleNamespace(id=UUID(int=8)))
        self.trouble: OvertileError | None = None
        self.told: list[Any] = []

    def check(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def note(self, note: dict[str, Any]) -> None:
        self.told.append(note)

    def advance(self) -> None:
        self.told.append("advance")


class FakeStorage:
    """A store in memory that tells its caller's `work` what it keeps."""

    def __init__(self, work: FakeWork) -> None:
        self._work = work
        self.objects: dict[str, bytes] = {}
        self.trouble: OvertileError | None = None

    def put(self, key: str, body: bytes) -> Stored:
        if self.trouble is not None:
            raise self.trouble
        self.objects[key] = body
        self._work.told.append("put")
        return Stored(key, "0" * 64, len(body))

    def get(self, key: str) -> bytes:
        try:
            return self.objects[key]
        except KeyError:
            raise NotFound(key) from None


class FakeLog:
    """Stands in for `MlflowLog`; `made` holds every one."""

    made: list["FakeLog"]

    def __init__(self, url: str, run: TrackedRun, *, experiment: str) -> None:
        self.url, self.run, self.experiment = url, run, experiment
        self.epochs: list[Epoch] = []
        self.states: list[str | None] = []
        FakeLog.made.append(self)

    def add(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)

    def close(self, state: str | None) -> None:
        self.states.append(state)


@pytest.fixture
def work() -> Any:
    return FakeWork()


@pytest.fixture
def storage(work: FakeWork) -> Any:
    return FakeStorage(work)


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Sequence[FakeLog]:
    FakeLog.made = []
    monkeypatch.setattr(following, "MlflowLog", FakeLog)
    return FakeLog.made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Time as the listener sees it, to be moved."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(following, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def make_settings(url: str | None) -> TrainerSettings:
    secret = None if url is None else SecretStr(url)
    return TrainerSettings.model_construct(mlflow_url=secret, mlflow_experiment="cells")


def make_listener(work: Any, storage: Any, *, seconds: float = 60, mlflow: Any = None) -> JobListener:
    return JobListener(work, storage, ORDER, seconds=seconds, mlflow=mlflow)


def make_snapshot() -> Snapshot:
    return Snapshot(counts=torch.zeros((2, 2), dtype=torch.int64), epoch=4, step=2, history=EPOCHS)


# The run in MLflow


def test_without_a_server_nothing_is_tracked(work: Any, logs: Sequence[FakeLog]) -> None:
    with track(make_settings(None), work, ORDER) as mlflow:
        assert mlflow is None
    with pytest.raises(Rejected), track(make_settings(None), work, ORDER):
        raise Rejected("diverged")
    assert not logs


def test_a_run_is_the_jobs_and_holds_the_whole_order(work: Any, logs: Sequence[FakeLog]) -> None:
    with track(make_settings("http://me:secret@tracking"), work, ORDER) as mlflow:
        assert mlflow is not None
        mlflow.add(EPOCHS[0])
    (log,) = logs
    assert (log.url, log.experiment) == ("http://me:secret@tracking", "cells")
    assert (log.run.job_id, log.run.name) == (str(JOB), "nuclei-starter")
    assert log.run.params == ORDER.model_dump(mode="json")
    assert log.run.tags["recipe"] == "nuclei-starter"
    assert log.run.tags["code"]
    assert log.epochs == EPOCHS[:1]


def test_the_run_of_a_job_names_its_recipe_though_the_order_is_read_without_it(
    work: Any, logs: Sequence[FakeLog]
) -> None:
    order = read_order({**work.claim.job.spec, "dataset_version": {"id": str(UUID(int=9))}})
    with track(make_settings("http://tracking"), work, order):
        assert order.recipe is None
        assert logs[0].run.tags["recipe"] == "nuclei-starter"


def test_a_training_that_ends_well_ends_its_run(work: Any, logs: Sequence[FakeLog]) -> None:
    with track(make_settings("http://tracking"), work, ORDER):
        assert logs[0].states == []
    assert logs[0].states == ["FINISHED"]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Rejected("the training diverged"), "FAILED"),
        (Cancelled("by its user"), "KILLED"),
        (Draining("this process was asked to end"), None),
        (LeaseLost("somebody else holds it"), None),
        (Unavailable("the store did not answer"), None),
        (ZeroDivisionError("oh"), None),
    ],
)
def test_how_a_training_ended_decides_how_its_run_ends(
    work: Any, logs: Sequence[FakeLog], error: Exception, state: str | None
) -> None:
    """Left open, where another try goes on in it."""
    with pytest.raises(type(error)), track(make_settings("http://tracking"), work, ORDER):
        raise error
    assert logs[0].states == [state]


# Progress


def test_steps_are_noted_no_more_often_than_anybody_could_read(work: Any, storage: Any, clock: Any) -> None:
    listener = make_listener(work, storage)
    for step in range(1, 6):
        listener.step(1, step, 100)
        clock.now += 1.0
    assert [note["step"] for note in work.told] == [1, 3, 5]
    assert work.told[0] == {"epochs": 9, "epoch": 1, "step": 1, "steps": 100}


def test_a_step_is_noted_with_the_figures_of_the_epoch_before_it(work: Any, storage: Any, clock: Any) -> None:
    log = SimpleNamespace(epochs=[])
    log.add = log.epochs.append
    listener = make_listener(work, storage, mlflow=log)
    assert listener.epoch(EPOCHS[1], EPOCHS[0], ()) is None
    listener.step(3, 1, 100)
    figures, step = work.told
    assert (figures["epoch"], figures["best_epoch"], figures["best_dice"]) == (2, 1, EPOCHS[0].validation_dice)
    assert figures["validation_loss"] == EPOCHS[1].validation_loss
    assert step == {**figures, "epoch": 3, "step": 1, "steps": 100}
    assert log.epochs == [EPOCHS[1]]


def test_a_listener_stops_the_training_where_its_work_should_stop(work: Any, storage: Any) -> None:
    listener = make_listener(work, storage)
    listener.check()
    work.trouble = Cancelled("by its user")
    with pytest.raises(Cancelled):
        listener.check()


# Snapshots


def test_a_snapshot_is_wanted_when_the_last_one_is_old_enough(work: Any, storage: Any, clock: Any) -> None:
    listener = make_listener(work, storage, seconds=60)
    wanted = []
    for now in (1000.0, 1059.9, 1060.0):
        clock.now = now
        wanted.append(listener.wants_snapshot())
    assert wanted == [False, False, True]
    listener.save(make_snapshot())
    assert not listener.wants_snapshot()
    clock.now += 60
    assert listener.wants_snapshot()


def test_what_is_saved_is_found_by_the_next_try_and_is_an_advance_once_it_is_stored(work: Any, storage: Any) -> None:
    listener = make_listener(work, storage)
    listener.save(make_snapshot())
    assert work.told == ["put", "advance"]
    assert listener.stored is not None
    assert listener.stored.key == job_key(JOB, SNAPSHOT)
    found = find_snapshot(storage, work)
    assert found is not None
    assert (found.epoch, found.step, found.history) == (4, 2, EPOCHS)


def test_who_lost_the_block_does_not_write_over_its_successors_snapshot(work: Any, storage: Any) -> None:
    listener = make_listener(work, storage)
    work.trouble = LeaseLost("somebody else holds it")
    with pytest.raises(LeaseLost):
        listener.save(make_snapshot())
    assert (storage.objects, work.told, listener.stored) == ({}, [], None)


def test_a_process_that_ends_saves_what_was_done_until_then(work: Any, storage: Any) -> None:
    work.trouble = Draining("this process was asked to end")
    make_listener(work, storage).save(make_snapshot())
    assert work.told == ["put", "advance"]


def test_a_snapshot_that_the_store_did_not_take_is_no_advance(work: Any, storage: Any) -> None:
    storage.trouble = Unavailable("the store did not answer")
    with pytest.raises(Unavailable):
        make_listener(work, storage).save(make_snapshot())
    assert work.told == []


def test_a_first_try_finds_no_snapshot(work: Any, storage: Any) -> None:
    assert find_snapshot(storage, work) is None


def test_a_snapshot_that_cannot_be_read_is_passed_over(work: Any, storage: Any, caplog: Any) -> None:
    whole = make_snapshot().to_bytes()
    for body in (b"", b"neither fish nor fowl", whole[: len(whole) // 2]):
        storage.objects[job_key(JOB, SNAPSHOT)] = body
        assert find_snapshot(storage, work) is None
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == ["its snapshot cannot be read"] * 3
