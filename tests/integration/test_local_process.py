"""One process: its start, its health, its end."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from deploy.local import Process, ServerDidNotStart, proctree
from tests.processes import command_of, eventually


def shell(script: str, tmp_path: Path, **options: Any) -> Process:
    return Process(
        "fake", ["/bin/sh", "-c", script], log=tmp_path / "fake.log", **({"healthy": lambda: None} | options)
    )


def never_healthy() -> None:
    raise ConnectionRefusedError("nobody there")


def test_a_program_that_ends_is_reported_with_its_exit_code_and_its_last_words(tmp_path):
    process = shell("seq 1 100; echo no disk left; exit 3", tmp_path, healthy=never_healthy)
    with pytest.raises(ServerDidNotStart, match="exit code 3") as caught, process:
        pass
    assert str(caught.value).endswith("  no disk left")
    assert "  100\n" in str(caught.value)
    assert "  50\n" not in str(caught.value)


def test_a_program_that_never_answers_is_reported_and_stopped(tmp_path):
    process = shell("echo thinking; exec sleep 1000", tmp_path, healthy=never_healthy, patience_s=0.2)
    with pytest.raises(ServerDidNotStart, match=r"(?s)no answer within 0.2 s.*nobody there.*thinking"), process:
        pass
    assert not process.running


def test_a_program_that_is_missing_is_named(tmp_path):
    process = Process("ghost", ["/nowhere/ghost"], log=tmp_path / "log", healthy=never_healthy)
    with pytest.raises(ServerDidNotStart, match=r"(?s)ghost did not start.*/nowhere/ghost"), process:
        pass


def test_stop_takes_down_even_children_that_left_the_session(tmp_path):
    process = shell("setsid sleep 1000 & (sleep 1000 &) ; wait", tmp_path)
    process.start()
    assert eventually(lambda: sum("sleep" in command_of(one.pid) for one in proctree.family(process.pid)) == 2)
    offspring = proctree.family(process.pid)
    process.stop()
    assert not any(proctree.alive(one) for one in offspring)


def test_stop_kills_a_program_that_ignores_its_signal(tmp_path):
    process = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done", tmp_path, stop_patience_s=0.2)
    process.start()
    assert eventually(lambda: "ready" in process.log.read_text())
    process.stop()
    assert not process.running


def test_a_program_outlives_the_thread_that_started_it(tmp_path):
    process = shell("trap 'echo signalled' TERM; while :; do echo tick; sleep 0.01; done", tmp_path)
    ticking = threading.Event()

    def start_and_wait() -> None:
        process.start()
        ticking.wait()

    starter = threading.Thread(target=start_and_wait)
    starter.start()
    assert eventually(lambda: process.log.exists() and "tick" in process.log.read_text())
    ticking.set()  # the thread must not end earlier: the tie to it is made last, by the child
    starter.join()
    seen = process.log.read_text().count("tick")
    assert eventually(lambda: process.log.read_text().count("tick") > seen + 20)
    assert "signalled" not in process.log.read_text()
    process.kill()
