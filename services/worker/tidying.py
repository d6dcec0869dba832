"""Removes from the store what nobody wants any more: bytes that no file refers to, uploads that were given up,
what jobs wrote for themselves alone.

Safe to run any number of times at once, and to be killed at any moment.
"""

import logging
import threading
from dataclasses import astuple, dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from services.worker.settings import SweeperSettings
from shared.domain import collection, leftovers, uploads
from shared.errors import OvertileError
from shared.storage import Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Removed:
    """By one round."""

    objects: int  # that nothing refers to
    uploads: int  # that were given up
    jobs: int  # that are over, and from now on nothing in the store but their artifacts


def tidy(session: Session, storage: Storage, settings: SweeperSettings) -> Removed:
    """One round."""
    return Removed(
        collection.collect(session, storage, seconds=settings.collect_after_seconds),
        uploads.abort_abandoned(session, storage, seconds=settings.abandon_after_seconds),
        leftovers.remove(session, storage, seconds=settings.leave_seconds),
    )


def run(engine: Engine, storage: Storage, settings: SweeperSettings, ended: threading.Event) -> None:
    """Tidy up until `ended` is set. A server that is away is waited for."""
    while not ended.is_set():
        try:
            with Session(engine, expire_on_commit=False) as session:
                removed = astuple(tidy(session, storage, settings))
            if any(removed):
                log.info("removed: %d objects, %d abandoned uploads, and the leftovers of %d jobs", *removed)
        except (SQLAlchemyError, OvertileError) as error:
            log.warning("tidying up goes on when servers answer: %s", error)
        ended.wait(settings.tidy_seconds)
