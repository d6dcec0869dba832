"""A process that listens for the doorbell and executes blocks: the Celery side of worker and trainer."""

import logging
from typing import Any
from uuid import UUID

from celery.signals import worker_ready, worker_shutting_down

from shared.execution import Drain, Executor
from shared.queue import EXECUTE, make_celery
from shared.settings import ExecutorSettings

log = logging.getLogger(__name__)


def consume(settings: ExecutorSettings, queue: str, executor: Executor, drain: Drain) -> None:
    """Execute blocks of `queue` until SIGTERM; then finish or give back what is being worked on, and return.

    Blocks run in threads: they mostly wait for the store, the model server or code without the interpreter's lock, and
    so share a channel, one cache and one set of open slides.
    """
    app = make_celery(settings)

    @app.task(name=EXECUTE)
    def execute(block_id: str) -> None:
        executor.execute(UUID(block_id))

    def begin_drain(**_: Any) -> None:
        log.info("asked to end: blocks have %.0f s to finish, then they are given back", settings.drain_seconds)
        drain.begin()

    def say_ready(**_: Any) -> None:
        if settings.ready_file is not None:
            settings.ready_file.touch()

    worker_ready.connect(say_ready, weak=False)
    worker_shutting_down.connect(begin_drain, weak=False)
    app.worker_main(
        [
            "worker",
            "--pool=threads",
            f"--concurrency={settings.concurrency}",
            f"--queues={queue}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=INFO",
        ]
    )
