"""Start a trainer: `python -m services.trainer`."""

from datetime import timedelta
from functools import partial

from services.trainer.job import Context, train_block
from services.trainer.settings import TrainerSettings
from shared.consumer import consume
from shared.database import make_engine, make_sessions
from shared.domain.dispatch import Dispatcher
from shared.execution import Drain, Executor
from shared.queue import TRAIN
from shared.storage import Storage
from shared.tables.jobs import Stage


def main() -> None:
    """Train, one job at a time, until SIGTERM."""
    settings = TrainerSettings()
    sessions = make_sessions(make_engine(settings))
    context = Context(settings, sessions, Storage(settings))
    drain = Drain(settings.drain_seconds)
    executor = Executor(
        sessions,
        Dispatcher.from_settings(settings),
        {Stage.TRAIN: partial(train_block, context)},
        lease=timedelta(seconds=settings.lease_seconds),
        attempts=settings.block_attempts,
        drain=drain,
    )
    consume(settings, TRAIN, executor, drain)


if __name__ == "__main__":
    main()
