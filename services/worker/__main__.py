"""Start a worker."""

from services.worker.app import make_executor
from services.worker.settings import WorkerSettings
from shared.consumer import consume
from shared.execution import Drain
from shared.queue import WORK


def main() -> None:
    """Execute blocks until SIGTERM."""
    settings = WorkerSettings()
    drain = Drain(settings.drain_seconds)
    consume(settings, WORK, make_executor(settings, drain), drain)


if __name__ == "__main__":
    main()
