"""Waiting for the end of a job without asking for it again and again."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg
from sqlalchemy import Engine

from shared.domain.stages import ENDED

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0  # before the database is asked again to tell


class Endings:
    """Wakes those who wait for a job when PostgreSQL tells that it has ended.

    What is told is a hint, as a doorbell is: it may be lost, so that who waits looks for himself now and then. One
    connection listens for all of a process. All methods belong to the event loop.
    """

    def __init__(self, engine: Engine) -> None:
        self._address = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._waiting: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def watch(self, job_id: UUID) -> Iterator[asyncio.Event]:
        """What is set when the job ends within the `with`."""
        ended = asyncio.Event()
        self._waiting[job_id].add(ended)
        try:
            yield ended
        finally:
            self._waiting[job_id].discard(ended)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def listen(self) -> None:
        """Until cancelled. While the database is away, nobody is woken."""
        while True:
            try:
                await self._listen_once()
            except psycopg.OperationalError as error:
                log.warning("the ends of jobs are not heard of, trying again: %s", error)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _listen_once(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._address, autocommit=True) as connection:
            await connection.execute(f"LISTEN {ENDED}")
            async for told in connection.notifies():
                for ended in self._waiting.get(UUID(told.payload), ()):
                    ended.set()
