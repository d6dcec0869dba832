"""A client that is killed half-way through a large file, and started again."""

import http.client
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import uvicorn
from overtile import Client
from sqlalchemy.orm import Session

from services.api.app import create_app
from services.api.settings import ApiSettings
from shared.domain import workspaces
from shared.settings import Settings
from shared.storage import Storage, object_key
from shared.tables import Workspace
from tests.processes import eventually

PART = 16 * 2**20
PARTS = 8
SIZE = (PARTS - 1) * PART + 1234
AT_ONCE = 4  # parts of a file that the client sends at the same time
SEND = """
import sys
from overtile import Client
with Client(sys.argv[1], sys.argv[2]) as client:
    print(client.datasets.upload(sys.argv[3], name="cohort", progress=False).number)
"""


@dataclass
class Arrived:
    """A part as it came by: how many of its bytes, and whether the store took it."""

    number: int
    bytes: int = 0
    taken: bool = False


@dataclass
class Log:
    """All parts that came by. Those behind the first `most` are held up until the line is `cut`, and break off then."""

    most: int
    parts: list[Arrived] = field(default_factory=list)
    cut: threading.Event = field(default_factory=threading.Event)

    def taken(self) -> list[int]:
        return [part.number for part in self.parts if part.taken]


class Gate(ThreadingHTTPServer):
    """In front of the store: counts what comes by, and can hold it up."""

    daemon_threads = True

    def __init__(self, store: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = urlsplit(store)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.log = Log(most=PARTS)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is killed is part of the game."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gate

    def do_PUT(self) -> None:
        log = self.server.log
        part = Arrived(int(parse_qs(urlsplit(self.path).query)["partNumber"][0]))
        log.parts.append(part)
        store = http.client.HTTPConnection(str(self.server.store.netloc))
        store.putrequest("PUT", self.path, skip_host=True, skip_accept_encoding=True)
        for name in ("Host", "Content-Length"):  # the host is signed
            store.putheader(name, self.headers[name])
        store.endheaders()
        left = int(self.headers["Content-Length"])
        while left and (chunk := self.rfile.read1(min(left, 65_536))):
            if part.number > log.most:
                log.cut.wait(60)
                break
            part.bytes += len(chunk)
            left -= len(chunk)
            store.send(chunk)
        if left:  # cut, or the client is gone
            store.close()
            self.close_connection = True
            return
        answer = store.getresponse()
        body = answer.read()
        part.taken = answer.status == 200
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is http.server's
        """Silence."""


@pytest.fixture
def gate(settings: Settings) -> Iterator[Gate]:
    with Gate(settings.s3_endpoint) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()


@pytest.fixture
def url(settings: Settings, gate: Gate) -> Iterator[str]:
    """The API, whose presigned URLs lead through the gate."""
    told = ApiSettings.model_validate({**settings.model_dump(), "s3_public_endpoint": gate.url})
    server = uvicorn.Server(uvicorn.Config(create_app(told), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert eventually(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.long
def test_a_client_that_was_killed_halfway_goes_on_and_sends_only_what_was_missing(
    gate: Gate, url: str, session: Session, workspace: Workspace, storage: Storage, tmp_path: Path
) -> None:
    key = workspaces.issue_key(session, workspace, label="test")
    path = tmp_path / "slide.tif"
    path.write_bytes(os.urandom(SIZE))
    argv = [sys.executable, "-c", SEND, url, key, str(path)]

    gate.log = before = Log(most=3)
    client = subprocess.Popen(argv)
    assert eventually(lambda: len(before.taken()) == 3 and len(before.parts) == 3 + AT_ONCE, within_s=60)
    client.send_signal(signal.SIGKILL)
    client.wait()
    before.cut.set()

    gate.log = after = Log(most=PARTS)
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, timeout=120)
    assert sorted(before.taken()) == [1, 2, 3]
    assert sorted(part.number for part in after.parts) == [4, 5, 6, 7, 8], "each missing part once, no other"
    assert sum(part.bytes for part in after.parts) == SIZE - 3 * PART
    with Client(url, key) as reader:
        (file,) = reader.datasets.files(reader.datasets.version(reader.datasets.find("cohort"), 1))
    assert storage.get_file(object_key(workspace.id, file.sha256 or ""), tmp_path / "got") == file.sha256
    assert (tmp_path / "got").stat().st_size == SIZE
