"""Removes from the store what nobody wants any more: bytes that no file refers to, uploads that were given up.

Safe to run any number of times at once, and to be killed at any moment.
"""

import logging
import threading

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from services.worker.settings import SweeperSettings
from shared.domain import collection, uploads
from shared.errors import OvertileError
from shared.storage import Storage

log = logging.getLogger(__name__)


def tidy(session: Session, storage: Storage, settings: SweeperSettings) -> tuple[int, int]:
    """One round; returns how many objects were removed, and how many uploads."""
    objects = collection.collect(session, storage, seconds=settings.collect_after_seconds)
    return objects, uploads.abort_abandoned(session, storage, seconds=settings.abandon_after_seconds)


def run(engine: Engine, storage: Storage, settings: SweeperSettings, ended: threading.Event) -> None:
    """Tidy up until `ended` is set. A server that is away is waited for."""
    while not ended.is_set():
        try:
            with Session(engine, expire_on_commit=False) as session:
                objects, abandoned = tidy(session, storage, settings)
            if objects or abandoned:
                log.info("%d objects that nothing refers to and %d abandoned uploads were removed", objects, abandoned)
        except (SQLAlchemyError, OvertileError) as error:
            log.warning("tidying up goes on when servers answer: %s", error)
        ended.wait(settings.tidy_seconds)
