"""The sweeper: finds what fell silent and rings for what nobody holds. Idempotent; any number may run, one works.

It depends on nothing but the database and the broker: lost messages, dead workers and a broker that was emptied all
look the same to it, a row that is due.
"""

import logging
import threading

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from shared.domain import blocks
from shared.domain.dispatch import Dispatcher

log = logging.getLogger(__name__)

LOCK = 0x0F_E27_11E  # of the database, held by the sweeper that works


def sweep(session: Session, dispatcher: Dispatcher, *, attempts: int) -> int:
    """One round; returns how many blocks were taken from silent owners."""
    dispatcher.ring_due(session)
    taken = 0
    for claim in blocks.find_expired(session):
        try:
            taken += blocks.expire(session, dispatcher, claim, attempts=attempts)
        except DBAPIError as error:  # a locked row, say: the others need not wait for it
            log.warning("block %s stays with its silent owner for now: %s", claim.block.id, error)
    return taken


def run(engine: Engine, dispatcher: Dispatcher, *, attempts: int, pause: float, ended: threading.Event) -> None:
    """Sweep until `ended` is set. A database that is away is waited for; a second sweeper waits its turn."""
    while not ended.is_set():
        try:
            # A connection of its own, never pooled: the lock lives and dies with it.
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as guard:
                guard.detach()
                while not ended.is_set():
                    if guard.scalar(select(func.pg_try_advisory_lock(LOCK))):  # held already counts as won
                        with Session(engine, expire_on_commit=False) as session:
                            _report(sweep(session, dispatcher, attempts=attempts))
                    ended.wait(pause)
        except SQLAlchemyError as error:
            log.warning("the database did not answer, sweeping goes on when it does: %s", error)
            ended.wait(pause)


def _report(taken: int) -> None:
    if taken:
        log.warning("%d blocks were taken back from owners that fell silent", taken)
