"""The one channel to the model server: patient while the server is away, never for ever.

Settings of the channel: a server that comes back is found within 2 s. It is asked for a sign of life while a call is
silent for long, but twice at most: Triton by default ends a connection on which it is asked more often within 5 min.
"""

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from shared.errors import Unavailable

SECONDS_FOR_LITTLE = 10.0  # what no model computes for: states, names, regions
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # s
CHANNEL = [
    ("grpc.max_send_message_length", -1),  # as large as it takes
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", int(1000 * FIRST_PAUSE)),
    ("grpc.max_reconnect_backoff_ms", int(1000 * LONGEST_PAUSE)),
    ("grpc.min_reconnect_backoff_ms", int(1000 * LONGEST_PAUSE)),  # also how long connecting may take
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 2),
]

Answer = TypeVar("Answer")


class NotLoaded(Unavailable):
    """The server does not hold the model, or its engine is dead: load it, then ask again."""


class Away(Unavailable):
    """The server cannot be reached, or the connection broke."""


class Refused(Unavailable):
    """The server answered that it cannot do that, or with something else than it was asked for."""


class RegionLost(Unavailable):
    """The server does not know the shared memory it was pointed to: it was started anew."""


_BY_STATUS = {
    "StatusCode.UNAVAILABLE": Away,
    "StatusCode.INVALID_ARGUMENT": Refused,
    "StatusCode.INTERNAL": Refused,
}


class Connection:
    """Safe to share between threads. Every call carries a deadline of its own."""

    def __init__(self, url: str, *, patience: float) -> None:
        self.url = url
        self._patience = patience
        self._client = triton.InferenceServerClient(url, channel_args=CHANNEL)

    def ask(self, about: str, call: Callable[[Any], Answer]) -> Answer:
        """`call(client)`, repeated while the server is away, for `patience` seconds; pauses double, with jitter.

        Raises NotLoaded, Away, Refused or Unavailable; `about` says in their text what was asked for.
        """
        deadline, pause = time.monotonic() + self._patience, FIRST_PAUSE
        while True:
            try:
                return self.ask_once(about, call)
            except Away:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
            # Many workers that lost the same server should not all come back at the same moment.
            time.sleep(min(left, random.uniform(pause / 2, pause)))  # noqa: S311  # no secret
            pause = min(2 * pause, LONGEST_PAUSE)

    def ask_once(self, about: str, call: Callable[[Any], Answer]) -> Answer:
        """`call(client)`. Raises NotLoaded, RegionLost, Away, Refused or Unavailable."""
        try:
            return call(self._client)
        except InferenceServerException as error:
            raise self._translate(about, error) from error

    def close(self) -> None:
        """Give the channel back."""
        self._client.close()

    def _translate(self, about: str, error: InferenceServerException) -> Unavailable:
        message, status = str(error.message()), error.status()
        text = f"Triton at {self.url}, {about}: {message}"
        if "shared memory region" in message:  # its status is that of a missing model
            return RegionLost(text)
        if status == "StatusCode.NOT_FOUND" or "Stub process" in message:
            return NotLoaded(text)
        return _BY_STATUS.get(status, Unavailable)(text)
