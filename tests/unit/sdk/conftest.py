"""A scripted server, a clock that does not wait, and a client of both."""

import threading
from collections.abc import Iterator

import pytest
from overtile import Client

from tests.unit.sdk.scripted_server import Server, Sleeper


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()


@pytest.fixture
def sleeper() -> Sleeper:
    return Sleeper()


@pytest.fixture
def client(server: Server, sleeper: Sleeper) -> Iterator[Client]:
    with Client(server.url, "secret", clock=sleeper.clock()) as connected:
        yield connected
