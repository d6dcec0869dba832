"""The dispatcher: keeps the broker's queue shallow and forgets no block.

A pending block carries the time at which it is due to be rung. Ringing moves that time on by a patience, so a lost
message is rung again, and a message that arrives twice finds its block taken. New blocks, retries after a pause and
lost messages are therefore one mechanism.
"""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Self
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared.errors import Unavailable
from shared.queue import QUEUES, Doorbell, Queue
from shared.settings import Settings
from shared.tables import Block
from shared.tables.jobs import BlockState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dispatcher:
    """Rings for what is due, as far as the queue has room."""

    doorbell: Doorbell
    depth: int  # messages a queue should hold
    patience: timedelta  # until a rung block that nobody claimed is rung again

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """On the broker that the settings name."""
        return cls(Queue(settings), settings.queue_depth, timedelta(seconds=settings.ring_patience_seconds))

    def ring_due(self, session: Session) -> int:
        """Ring for due blocks, the longest due first; returns how many.

        A broker that is away is no error here: the rows stay due, and the sweeper comes by again.
        """
        try:
            return sum(self._ring_queue(session, queue) for queue in QUEUES)
        except Unavailable as error:
            log.warning("nobody was rung, the sweeper will try again: %s", error)
            return 0

    def _ring_queue(self, session: Session, queue: str) -> int:
        room = self.depth - self.doorbell.depth(queue)
        if room <= 0:
            return 0
        due = self._take_due(session, queue, room)
        for block_id in due:
            self.doorbell.ring(queue, block_id)
        return len(due)

    def _take_due(self, session: Session, queue: str, room: int) -> list[UUID]:
        """Move the due time of up to `room` blocks on and return them."""
        due = (
            select(Block.id)
            .where(Block.state == BlockState.PENDING, Block.queue == queue, Block.ring_at <= func.now())
            .order_by(Block.ring_at)
            .limit(room)
            .with_for_update(skip_locked=True)
        )
        with session.begin():
            ids = list(session.scalars(due))
            if ids:
                session.execute(update(Block).where(Block.id.in_(ids)).values(ring_at=func.now() + self.patience))
        return ids
