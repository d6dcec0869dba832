"""Start a sweeper: `python -m services.worker.sweeping`."""

import logging
import signal
import threading

from services.worker import sweeper, tidying
from services.worker.settings import SweeperSettings
from shared.database import make_engine
from shared.domain.dispatch import Dispatcher
from shared.storage import Storage


def main() -> None:
    """Sweep until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = SweeperSettings()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    engine = make_engine(settings)
    # Beside the sweeper: a store that does not answer holds up nobody's blocks.
    threading.Thread(target=tidying.run, args=(engine, Storage(settings), settings, ended), daemon=True).start()
    sweeper.run(
        engine,
        Dispatcher.from_settings(settings),
        attempts=settings.block_attempts,
        pause=settings.sweep_seconds,
        ended=ended,
    )


if __name__ == "__main__":
    main()
