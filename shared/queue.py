"""The port to Celery: a doorbell, nothing more. What there is to do stands in the database."""

from typing import Protocol
from uuid import UUID

import celery
import kombu
import kombu.exceptions
import kombu.transport.redis
import kombu.transport.virtual
import redis

from shared.errors import Unavailable
from shared.settings import Settings

EXECUTE = "overtile.execute"  # the one task there is: execute the block of this id
WORK = "work"  # blocks for the workers
TRAIN = "train"  # blocks for the trainers
QUEUES = (WORK, TRAIN)


class Doorbell(Protocol):
    """What the rules need of a broker."""

    def ring(self, queue: str, block_id: UUID) -> None:
        """Tell whoever listens on `queue` that this block is due."""

    def depth(self, queue: str) -> int:
        """Messages that nobody has taken yet."""


class ForgivingQoS(kombu.transport.redis.QoS):
    """Gives a message's place back even if the broker was away when it was acknowledged.

    kombu keeps the place taken. A worker whose places are all taken asks for no more messages, and so never notices
    that its connection is gone: it would be deaf until it is restarted. To us a lost acknowledgement is nothing.
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge, and let go of the message in any case."""
        try:
            super().ack(delivery_tag)
        except (redis.RedisError, OSError):
            kombu.transport.virtual.QoS.ack(self, delivery_tag)
            raise


kombu.transport.redis.Channel.QoS = ForgivingQoS


def make_celery(settings: Settings) -> celery.Celery:
    """The app with the policy of every task: ids only, no results, a message is gone when its work is."""
    app = celery.Celery("overtile", broker=settings.broker_url.get_secret_value(), set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        task_acks_late=True,
        task_ignore_result=True,
        task_create_missing_queues=False,
        task_default_queue=WORK,
        # A lost message is rung again by the sweeper: sending must fail fast, not hold up a request.
        task_publish_retry=False,
        task_queues=[kombu.Queue(name) for name in QUEUES],
        worker_enable_remote_control=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
    )
    return app


class Queue:
    """The doorbell on Redis or Valkey. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._celery = make_celery(settings)
        # Counting waiting messages is no part of Celery's interface: on Redis a queue is a list of its own name.
        self._redis = redis.Redis.from_url(
            settings.broker_url.get_secret_value(), socket_timeout=5, socket_connect_timeout=2
        )

    def ring(self, queue: str, block_id: UUID) -> None:
        """Tell whoever listens on `queue` that this block is due. Raises Unavailable."""
        try:
            self._celery.send_task(EXECUTE, args=[str(block_id)], queue=queue)
        except kombu.exceptions.OperationalError as error:
            raise Unavailable(f"the broker did not take a message: {error}") from error

    def depth(self, queue: str) -> int:
        """Messages that nobody has taken yet. Raises Unavailable."""
        try:
            return int(self._redis.llen(queue))
        except redis.RedisError as error:
            raise Unavailable(f"the broker did not answer: {error}") from error

    def ping(self) -> None:
        """Raise if the broker does not answer."""
        self._redis.ping()

    def close(self) -> None:
        """Give the connections back."""
        self._celery.close()
        self._redis.close()
