"""What every doorbell promises."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from shared.errors import Unavailable
from shared.queue import TRAIN, WORK, Doorbell, Queue
from shared.settings import Settings
from tests.doorbells import MemoryDoorbell


class DoorbellPromises:
    @pytest.fixture
    def doorbell(self) -> Doorbell:
        raise AssertionError("each adapter gives its own")

    def test_depth_counts_the_messages_that_nobody_took(self, doorbell: Doorbell) -> None:
        before = doorbell.depth(WORK)
        doorbell.ring(WORK, uuid4())
        doorbell.ring(WORK, uuid4())
        assert doorbell.depth(WORK) == before + 2

    def test_queues_are_apart(self, doorbell: Doorbell) -> None:
        before = doorbell.depth(TRAIN)
        doorbell.ring(WORK, uuid4())
        assert doorbell.depth(TRAIN) == before


class TestMemoryDoorbell(DoorbellPromises):
    @pytest.fixture
    def doorbell(self) -> Doorbell:
        return MemoryDoorbell()


class TestQueueOnValkey(DoorbellPromises):
    @pytest.fixture
    def doorbell(self, server_settings: Settings) -> Iterator[Doorbell]:
        queue = Queue(server_settings)
        yield queue
        queue.close()


def test_a_broker_that_is_away_is_reported_as_unavailable(server_settings: Settings) -> None:
    away = Settings.model_validate({**server_settings.model_dump(), "broker_url": "redis://127.0.0.1:1/0"})
    queue = Queue(away)
    with pytest.raises(Unavailable):
        queue.ring(WORK, uuid4())
    with pytest.raises(Unavailable):
        queue.depth(WORK)
