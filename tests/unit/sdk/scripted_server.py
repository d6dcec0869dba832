"""An HTTP server that answers by a script, and that can break off, lie and fail on purpose."""

import hashlib
import json
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from overtile import Clock

NOW = "2026-01-01T00:00:00Z"
DATASET = {"id": str(UUID(int=1)), "name": "cohort-7", "created_at": NOW}
VERSION = {
    "id": str(UUID(int=2)), "dataset_id": DATASET["id"], "number": 1, "digest": "d", "images": 1, "masks": 0,
    "created_at": NOW,
}  # fmt: skip
JOB_ID = str(UUID(int=3))
JOB_PATH = f"/v1/jobs/{JOB_ID}"
PIXELS = b"pixels " * 50_000


@dataclass(frozen=True)
class Reply:
    """One answer of the server. `cut` hangs up instead; `announced` claims another length than is sent."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    announced: int | None = None


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server(ThreadingHTTPServer):
    """Answers what it was told to, in that order; the last answer to a request is repeated for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seen: list[Seen] = []
        self._replies: dict[tuple[str, str], deque[Reply | Callable[[Seen], Reply]]] = defaultdict(deque)
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, *replies: Reply | Callable[[Seen], Reply]) -> None:
        self._replies[method, path].extend(replies)

    def requests(self, method: str, path: str) -> list[Seen]:
        return [seen for seen in self.seen if (seen.method, seen.path) == (method, path)]

    def next_reply(self, seen: Seen) -> Reply:
        with self._lock:
            self.seen.append(seen)
            replies = self._replies[seen.method, seen.path]
            if not replies:
                return problem(404, f"nothing is scripted for {seen.method} {seen.path}")
            reply = replies[0] if len(replies) == 1 else replies.popleft()
        return reply if isinstance(reply, Reply) else reply(seen)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the game."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's kernel
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length", 0))
        seen = Seen(self.command, url.path, parse_qs(url.query), self.headers, self.rfile.read(length))
        reply = self.server.next_reply(seen)
        self.close_connection = self.close_connection or reply.cut or reply.announced is not None
        if reply.cut:
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(reply.announced or len(body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name is http.server's
        """Silence."""


class Sleeper:
    """A clock whose sleeps take no time and are written down."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def clock(self) -> Clock:
        return Clock(now=lambda: sum(self.slept), sleep=self.slept.append, chance=lambda: 1.0)


def problem(status: int, detail: str, **headers: str) -> Reply:
    document = {"type": "about:blank", "title": "no", "status": status, "detail": detail, "request_id": "r-17"}
    return Reply(status, document, {"Content-Type": "application/problem+json", **headers})


def job(state: str, **more: Any) -> Reply:
    return Reply(body={"id": JOB_ID, "kind": "segment", "state": state, "created_at": NOW, **more})


def artifact(server: Server, name: str = "a.png/mask.tif", data: bytes = PIXELS, kind: str = "mask") -> dict[str, Any]:
    return {
        "id": str(UUID(bytes=hashlib.md5(name.encode(), usedforsecurity=False).digest())),
        "image": "a.png", "kind": kind, "name": name, "media_type": "image/tiff", "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(), "url": f"{server.url}/store/{kind}?signature=s",
    }  # fmt: skip


def script_upload(server: Server, *, known: frozenset[str] = frozenset()) -> None:
    """A server on which an upload goes well."""

    def uploads(seen: Seen) -> Reply:
        files = [
            {**file, "url": None if file["name"] in known else f"{server.url}/store/{file['sha256']}?signature=s"}
            for file in seen.json["files"]
        ]
        for file in files:
            server.answer("PUT", f"/store/{file['sha256']}", Reply())
        return Reply(body={"files": files, "expires_in": 60})

    server.answer("POST", "/v1/datasets", Reply(201, DATASET))
    server.answer("POST", f"/v1/datasets/{DATASET['id']}/uploads", uploads)
    server.answer("POST", f"/v1/datasets/{DATASET['id']}/versions", Reply(201, VERSION))


def puts(server: Server) -> list[Seen]:
    return [seen for seen in server.seen if seen.method == "PUT"]


def script_download(server: Server, *artifacts: dict[str, Any]) -> None:
    server.answer("GET", f"{JOB_PATH}/artifacts", Reply(body={"items": list(artifacts), "next_cursor": None}))
