"""A training as a run in MLflow, told to a server that listens on this machine."""

import time
from base64 import b64encode
from collections.abc import Iterator
from threading import Thread

import pytest

from services.trainer.reports import tracking
from services.trainer.reports.mlflow import MlflowLog, TrackedRun
from services.trainer.reports.tracking import Refused
from shared.errors import Unavailable
from tests.unit.reports.histories import make_epoch, make_history
from tests.unit.reports.tracking_server import TrackingServer

RUN = TrackedRun("job-1", "nuclei", {"epochs": 3, "network": {"name": "unet", "widths": [4, 8]}}, {"recipe": "starter"})


@pytest.fixture
def server() -> Iterator[TrackingServer]:
    with TrackingServer() as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def wait_for(server: TrackingServer, calls: int) -> None:
    ends = time.monotonic() + 10
    while len(server.calls) < calls:
        assert time.monotonic() < ends, server.calls
        time.sleep(0.01)


def test_order_figures_tags_and_end_are_told(server, caplog):
    history = make_history(3)
    log = MlflowLog(server.url, RUN)
    for epoch in history:
        log.add(epoch)
    log.close("FINISHED")
    (run,) = server.runs.values()
    assert server.experiments == {"overtile": run.experiment_id}
    assert (run.name, run.status, run.tags) == ("nuclei", "FINISHED", {"recipe": "starter", "overtile.job": "job-1"})
    assert run.params == {"epochs": "3", "network.name": "unet", "network.widths": "[4, 8]"}
    assert run.list_steps("validation_dice") == [(epoch.epoch, epoch.validation_dice) for epoch in history]
    assert {name for name, *_ in run.metrics} >= {"train_loss", "train_iou", "learning_rate", "seconds"}
    assert not caplog.records


def test_a_run_is_seen_before_its_first_epoch_ends(server):
    log = MlflowLog(server.url, RUN)
    wait_for(server, calls=5)
    assert [run.status for run in server.runs.values()] == ["RUNNING"]
    log.close("KILLED")
    assert [run.status for run in server.runs.values()] == ["KILLED"]


def test_a_second_try_of_the_job_goes_on_in_the_same_run(server, caplog):
    for number in (1, 2):
        log = MlflowLog(server.url, RUN)
        log.add(make_epoch(number))
        log.close(None if number == 1 else "FINISHED")
    MlflowLog(server.url, TrackedRun("job-2", "nuclei", {}, {})).close("FAILED")
    assert [run.status for run in server.runs.values()] == ["FINISHED", "FAILED"]
    assert [step for step, _ in server.runs["run-0"].list_steps("train_loss")] == [1, 2]
    assert not caplog.records


def test_without_a_state_the_run_is_left_to_others(server):
    MlflowLog(server.url, RUN).close(None)
    assert [run.status for run in server.runs.values()] == ["RUNNING"]


def test_what_an_outage_held_up_arrives_after_it(server, caplog):
    server.failing = 503
    log = MlflowLog(server.url, RUN)
    for number in (1, 2):
        wait_for(server, calls=number)
        log.add(make_epoch(number))
    wait_for(server, calls=3)
    server.failing = None
    log.add(make_epoch(3))
    log.close("FINISHED")
    (run,) = server.runs.values()
    assert [step for step, _ in run.list_steps("train_loss")] == [1, 2, 3]
    assert run.status == "FINISHED"
    assert len(caplog.records) == 1


def test_a_server_that_is_away_costs_one_warning_that_holds_no_password(server, caplog):
    server.server_close()
    log = MlflowLog(server.url.replace("http://", "http://me:secret@"), RUN)
    for epoch in make_history(20):
        log.add(epoch)
    log.close("FAILED")
    (warning,) = caplog.records
    assert "job-1" in warning.getMessage()
    assert "secret" not in warning.getMessage()


def test_a_server_that_never_answers_holds_nobody_up(server, caplog):
    server.released.clear()
    begun = time.monotonic()
    log = MlflowLog(server.url, RUN, patience=0.2)
    for epoch in make_history(20):
        log.add(epoch)
    log.close("FINISHED")
    assert time.monotonic() - begun < 2
    assert len(caplog.records) == 1


@pytest.mark.parametrize("url", ["no url", "http://", "http://127.0.0.1:x", "ftp://127.0.0.1"])
def test_an_address_that_is_none_costs_a_warning(url, caplog):
    MlflowLog(url, RUN).close("FINISHED")
    assert len(caplog.records) == 1


def test_refused_parameters_do_not_hold_up_the_figures(server, caplog):
    MlflowLog(server.url, RUN).close(None)
    log = MlflowLog(server.url, TrackedRun("job-1", "nuclei", {"epochs": 4}, {}))
    log.add(make_epoch(1))
    log.close("FINISHED")
    assert len(server.runs["run-0"].list_steps("train_loss")) == 1
    assert server.runs["run-0"].params["epochs"] == "3"
    (warning,) = caplog.records
    assert "refused with 400" in warning.getMessage()


def test_many_parameters_and_figures_go_in_calls_that_mlflow_takes(server, caplog):
    server.failing = 503
    params = {f"p{number}": "x" * 9000 for number in range(249)} | {"cut inside a letter": "x" + "é" * 5000}
    log = MlflowLog(server.url, TrackedRun("job-1", "nuclei", params, {}))
    wait_for(server, calls=1)
    server.released.clear()  # the thread is held while all the epochs end
    log.add(make_epoch(1))
    wait_for(server, calls=2)
    for number in range(2, 302):
        log.add(make_epoch(number, 0.5))
    server.failing = None
    server.released.set()
    log.close("FINISHED")
    (run,) = server.runs.values()
    assert len(run.params) == 250
    assert {len(value.encode()) for value in run.params.values()} == {5999, 6000}
    assert len(run.metrics) == 301 * 8
    assert not any("refused" in record.getMessage() for record in caplog.records)


def test_name_and_password_in_the_address_are_sent_as_basic_authentication_and_never_logged(server, caplog):
    caplog.set_level("INFO")
    MlflowLog(server.url.replace("http://", "http://me:secret@"), RUN).close("FINISHED")
    assert server.credentials == {"Basic " + b64encode(b"me:secret").decode()}
    assert "runs/create" in caplog.text
    assert "secret" not in caplog.text


def test_a_figure_that_is_no_number_keeps_none_of_the_others_back(server, caplog):
    log = MlflowLog(server.url, RUN)
    log.add(make_epoch(1, loss=float("nan")))
    log.close("FAILED")
    (run,) = server.runs.values()
    assert not run.list_steps("validation_loss")
    assert len(run.metrics) == 7
    assert not caplog.records


def test_a_page_of_another_server_is_no_answer(server, caplog):
    server.failing = 200  # and an empty object
    MlflowLog(server.url, RUN).close("FINISHED")
    (warning,) = caplog.records
    assert "no tracking server of MLflow?" in warning.getMessage()


@pytest.mark.parametrize(("status", "error"), [(400, Refused), (404, Refused), (408, Unavailable), (429, Unavailable)])
def test_a_call_that_may_work_another_time_is_told_from_one_that_never_will(server, status, error):
    server.failing = status
    with tracking.TrackingServer(server.url) as client, pytest.raises(error, match=f"runs/update.*{status}"):
        client.end_run("run-0", "FINISHED")
