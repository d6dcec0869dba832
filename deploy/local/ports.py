"""Ports on the loopback interface that stay the same from one run to the next, as long as they are free."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path

# Below the range from which Linux takes the ports of outgoing connections (32768 and up): those come and go by chance.
CANDIDATES = range(20_000, 32_000)


def port_for(name: str, *, data: Path) -> int:
    """The port stored for `name` in the data directory if it is free, else a new one, which is then stored."""
    store = data / "ports.json"
    ports: dict[str, int] = json.loads(store.read_text()) if store.exists() else {}
    if name not in ports or not is_free(ports[name]):
        ports[name] = _any_free(taken=set(ports.values()))
        store.write_text(json.dumps(ports, indent=2))
    return ports[name]


def is_free(port: int) -> bool:
    """Whether a server could listen there now. Closing connections do not count, as they do not for a server."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_free(*, taken: set[int]) -> int:
    """At random, so that two stacks that start at the same moment hardly choose the same one."""
    for port in random.sample(CANDIDATES, len(CANDIDATES)):
        if port not in taken and is_free(port):
            return port
    raise OSError(f"no free port on 127.0.0.1 between {CANDIDATES.start} and {CANDIDATES.stop}")
