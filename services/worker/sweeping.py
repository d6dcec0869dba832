"""Start a sweeper: `python -m services.worker.sweeping`."""

import logging
import signal
import threading

from services.worker import sweeper
from services.worker.settings import SweeperSettings
from shared.database import make_engine
from shared.domain.dispatch import Dispatcher


def main() -> None:
    """Sweep until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = SweeperSettings()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    sweeper.run(
        make_engine(settings),
        Dispatcher.from_settings(settings),
        attempts=settings.block_attempts,
        pause=settings.sweep_seconds,
        ended=ended,
    )


if __name__ == "__main__":
    main()
