"""A doorbell in memory, for tests whose subject is the rows."""

from collections import defaultdict, deque
from uuid import UUID


class MemoryDoorbell:
    """Keeps the same promises as the one on Valkey; see tests/contracts/test_queue.py."""

    def __init__(self) -> None:
        self.messages: dict[str, deque[UUID]] = defaultdict(deque)

    def ring(self, queue: str, block_id: UUID) -> None:
        self.messages[queue].append(block_id)

    def depth(self, queue: str) -> int:
        return len(self.messages[queue])

    def lose_all(self) -> None:
        """What a broker that is restarted without a disk does."""
        self.messages.clear()
