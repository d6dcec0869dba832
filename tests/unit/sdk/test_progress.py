"""Parallel work and progress."""

import overtile
import pytest
from overtile import Client
from overtile.parallel import in_parallel
from overtile.progress import meter

from tests.unit.sdk.scripted_server import JOB_ID, JOB_PATH, Server, job


def test_items_are_taken_only_as_threads_come_free() -> None:
    items = iter(range(1000))
    results = in_parallel(lambda item: item * 2, items)
    assert next(results) == 0
    assert next(items) < 20


def test_the_first_error_ends_the_work() -> None:
    def fail(item: int) -> None:
        raise overtile.LocalFileError(str(item))

    with pytest.raises(overtile.LocalFileError, match="0"):
        list(in_parallel(fail, range(1000)))


def test_a_part_that_starts_again_is_not_counted_twice() -> None:
    with meter("uploading", shown=False, unit="bytes") as bar:
        part = bar.part()
        part.advance(70)
        part.restart()
        part.advance(100)
    assert bar.done == 100


def test_away_from_a_terminal_progress_is_plain_lines_on_stderr(
    server: Server, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    running = {"progress": {"blocks": 4, "done": 1}, "stages": [{"stage": "predict", "blocks": 4, "done": 1}]}
    server.answer("GET", JOB_PATH, job("running", **running), job("succeeded", progress={"blocks": 4, "done": 4}))
    client.jobs.wait(JOB_ID)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "segment: succeeded: 4/4 blocks\n")


def test_a_training_is_shown_by_its_epochs(
    server: Server, client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overtile.progress.LINE_AT_MOST_EVERY", 0.0)
    training = {
        "kind": "train",
        "spec": {"parameters": {"epochs": 12}},
        "note": {"epoch": 4, "step": 1, "steps": 9, "train_loss": 0.25, "seconds": 4.5},
    }
    server.answer("GET", JOB_PATH, job("running", **training), job("succeeded"))
    client.jobs.wait(JOB_ID)
    assert "train, training loss 0.25: 3/12 epochs\n" in capsys.readouterr().err


def test_on_a_terminal_progress_is_a_bar(
    server: Server, client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    server.answer("GET", JOB_PATH, job("running"), job("succeeded", progress={"blocks": 4, "done": 4}))
    client.jobs.wait(JOB_ID)
    assert "━━━" in capsys.readouterr().err
