"""What every doorbell promises."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis

from shared.errors import Unavailable
from shared.queue import EXECUTE, TRAIN, WORK, Doorbell, Queue, make_celery
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


def test_a_message_whose_acknowledgement_is_lost_gives_its_place_back(server_settings: Settings) -> None:
    """Else a worker whose places are all taken by such messages would never ask for another."""
    app = make_celery(server_settings)
    with app.connection_for_read() as connection:
        channel: Any = connection.channel()  # of the transport: typed as the least that all transports have
        places = channel.qos
        places.prefetch_count = 1
        app.send_task(EXECUTE, args=[str(uuid4())], queue=TRAIN, connection=connection)
        message = channel.basic_get(TRAIN)
        assert message is not None
        assert not places.can_consume()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(places, "_remove_from_indices", _lose_connection)
            with pytest.raises(redis.ConnectionError):
                places.ack(message.delivery_tag)
        assert places.can_consume()


def _lose_connection(*_: object) -> None:
    raise redis.ConnectionError("the broker is away")
