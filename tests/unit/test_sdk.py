"""The SDK against a server that misbehaves on purpose."""

import hashlib
import json
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import overtile
import pytest
from overtile import Client, Clock, DatasetVersion
from overtile.backoff import Backoff, parse_retry_after
from overtile.downloads import place
from overtile.files import HashedFile, collect, read_unchanged
from overtile.parallel import in_parallel
from overtile.progress import meter

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

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name is http.server's
        """Silence."""


class Sleeper:
    """A clock whose sleeps take no time and are written down."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def clock(self) -> Clock:
        return Clock(now=lambda: sum(self.slept), sleep=self.slept.append, chance=lambda: 1.0)


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


# --- the client ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "key", "named"), [(None, "k", "OVERTILE_URL"), ("http://a", None, "OVERTILE_API_KEY")])
def test_a_missing_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, url: str | None, key: str | None, named: str
) -> None:
    monkeypatch.delenv("OVERTILE_URL", raising=False)
    monkeypatch.delenv("OVERTILE_API_KEY", raising=False)
    with pytest.raises(overtile.ConfigurationError, match=named):
        Client(url, key)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost:8000", "ftp://a", "http://", "http://a:x"])
def test_a_url_that_cannot_be_right_is_refused_before_any_request(url: str) -> None:
    with pytest.raises(overtile.ConfigurationError, match="http://127"):
        Client(url, "secret")


def test_url_and_key_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTILE_URL", server.url + "/")
    monkeypatch.setenv("OVERTILE_API_KEY", "from-a-file\n")
    server.answer("GET", JOB_PATH, job("running"))
    with Client() as client:
        client.jobs.get(JOB_ID)
    assert server.seen[0].headers["Authorization"] == "Bearer from-a-file"


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(Client("http://a", "secret"))


# --- errors and retries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, overtile.ApiError),
        (401, overtile.Unauthorized),
        (403, overtile.Forbidden),
        (404, overtile.NotFound),
        (409, overtile.Conflict),
        (422, overtile.Invalid),
        (501, overtile.ServerError),
    ],
)
def test_a_problem_becomes_the_exception_of_its_status(
    server: Server, client: Client, status: int, error: type[overtile.ApiError]
) -> None:
    server.answer("GET", JOB_PATH, problem(status, "there is no such job"))
    with pytest.raises(error, match=rf"there is no such job \({status}, request r-17\)") as caught:
        client.jobs.get(JOB_ID)
    assert type(caught.value) is error
    assert caught.value.request_id == "r-17"
    assert len(server.seen) == 1


def test_retry_after_is_obeyed(server: Server, client: Client, sleeper: Sleeper) -> None:
    server.answer("GET", JOB_PATH, problem(503, "starting", **{"Retry-After": "7"}), job("running"))
    assert client.jobs.get(JOB_ID).state == "running"
    assert sleeper.slept == [7.0]


def test_a_server_that_asks_for_too_long_a_pause_gets_no_second_request(
    server: Server, client: Client, sleeper: Sleeper
) -> None:
    server.answer("GET", JOB_PATH, problem(503, "maintenance", **{"Retry-After": "3600"}))
    with pytest.raises(overtile.ServerError) as caught:
        client.jobs.get(JOB_ID)
    assert caught.value.retry_after == 3600
    assert (len(server.seen), sleeper.slept) == (1, [])


def test_pauses_double_and_the_last_error_is_raised(server: Server, client: Client, sleeper: Sleeper) -> None:
    server.answer("GET", JOB_PATH, problem(503, "the database is down"))
    with pytest.raises(overtile.ServerError, match="the database is down"):
        client.jobs.get(JOB_ID)
    assert sleeper.slept == [0.25, 0.5, 1.0, 2.0]


def test_jitter_never_more_than_halves_a_pause() -> None:
    slept: list[float] = []
    backoff = Backoff(Clock(sleep=slept.append, chance=lambda: 0.0))

    def fail() -> None:
        raise overtile.ConnectionFailed("cut", sent=True)

    with pytest.raises(overtile.ConnectionFailed):
        backoff.run(fail, repeatable=True)
    assert slept == [0.125, 0.25, 0.5, 1.0]


def test_a_cut_connection_is_tried_again(server: Server, client: Client) -> None:
    server.answer("GET", JOB_PATH, Reply(cut=True), job("running"))
    assert client.jobs.get(JOB_ID).state == "running"


def test_a_server_that_is_not_there_is_named(sleeper: Sleeper) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, never listening
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with (
            Client(url, "secret", clock=sleeper.clock()) as client,
            pytest.raises(overtile.ConnectionFailed, match=f"cannot reach {url}.*is it running"),
        ):
            client.jobs.get(JOB_ID)


def test_a_post_that_may_not_be_repeated_is_sent_once(server: Server, client: Client, sleeper: Sleeper) -> None:
    server.answer("POST", "/v1/things", Reply(cut=True))
    with pytest.raises(overtile.ConnectionFailed):
        client._transport.post("/v1/things", overtile.Dataset, body={})
    assert (len(server.seen), sleeper.slept) == (1, [])


def test_a_post_that_was_turned_away_at_the_door_may_always_be_repeated(server: Server, client: Client) -> None:
    server.answer("POST", "/v1/things", problem(429, "slowly", **{"Retry-After": "1"}), Reply(201, DATASET))
    assert client._transport.post("/v1/things", overtile.Dataset, body={}).name == "cohort-7"


def test_something_that_is_not_the_api_is_called_so(server: Server, client: Client) -> None:
    server.answer("GET", JOB_PATH, Reply(body=b"<html>welcome to nginx</html>"))
    with pytest.raises(overtile.UnexpectedAnswer, match="is the URL right"):
        client.jobs.get(JOB_ID)


def test_a_redirect_says_where_to(server: Server, client: Client) -> None:
    server.answer("GET", JOB_PATH, Reply(308, headers={"Location": "https://elsewhere/"}))
    with pytest.raises(overtile.ApiError, match="https://elsewhere/"):
        client.jobs.get(JOB_ID)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("12", 12.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None), ("-3", None)],
)
def test_retry_after_is_read_in_both_its_forms(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


# --- local files --------------------------------------------------------------------------------------------------


def test_a_folder_is_walked_and_hidden_files_stay_behind(tmp_path: Path) -> None:
    for name in ("images/a.png", "masks/a.png", ".DS_Store", ".cache/b.png", "images/.c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [file.name for file in collect(tmp_path)] == ["images/a.png", "masks/a.png"]


def test_a_linked_folder_is_walked_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "root" / "circle").symlink_to(tmp_path / "root")
    assert [file.name for file in collect([tmp_path / "root"])] == ["link/a.png"]


def test_a_mapping_names_its_files(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    assert [file.name for file in collect({"images/a.png": tmp_path / "x.png"})] == ["images/a.png"]


@pytest.mark.parametrize("given", [["{}/missing.png"], "{}/missing.png", {"a.png": "{}/missing.png"}])
def test_a_missing_path_is_named(tmp_path: Path, given: Any) -> None:
    filled = json.loads(json.dumps(given).replace("{}", str(tmp_path)))
    with pytest.raises(overtile.LocalFileError, match=r"missing\.png does not exist"):
        collect(filled)


def test_a_broken_link_in_a_folder_is_named_and_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(overtile.LocalFileError, match=r"a\.png does not exist"):
        collect(tmp_path)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(overtile.LocalFileError, match=f"no files to upload in {tmp_path}"):
        collect(tmp_path)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").touch()
    with pytest.raises(overtile.LocalFileError, match="give the folder above them"):
        collect([tmp_path / "images", tmp_path / "masks"])


@pytest.mark.parametrize("now", [b"other data", b"longer than it was", b"short"])
def test_the_last_bytes_of_a_file_that_changed_are_not_handed_out(tmp_path: Path, now: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(now)
    before = HashedFile("a.png", path, hashlib.sha256(b"first data").hexdigest(), len(b"first data"))
    handed_out: list[bytes] = []
    with pytest.raises(overtile.LocalFileError, match=r"a\.png changed"):
        handed_out.extend(read_unchanged(before))
    assert handed_out == []


def test_a_file_that_grew_is_noticed_before_more_is_sent_than_was_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overtile.files.CHUNK", 4)
    path = tmp_path / "a.tif"
    path.write_bytes(b"12345678 and more")
    handed_out: list[bytes] = []
    with pytest.raises(overtile.LocalFileError, match="changed"):
        handed_out.extend(read_unchanged(HashedFile("a.tif", path, hashlib.sha256(b"12345678").hexdigest(), 8)))
    assert sum(map(len, handed_out)) < 8


# --- datasets -----------------------------------------------------------------------------------------------------


def test_an_upload_sends_the_bytes_and_seals_the_version(server: Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PIXELS)
    (tmp_path / "empty.png").touch()
    script_upload(server)
    version = client.datasets.upload(tmp_path, name="cohort-7", progress=False)
    assert version.number == 1
    assert sorted(put.body for put in puts(server)) == [b"", PIXELS]
    sealed = server.requests("POST", f"/v1/datasets/{DATASET['id']}/versions")[0].json["files"]
    assert [(file["name"], file["bytes"]) for file in sealed] == [("a.png", len(PIXELS)), ("empty.png", 0)]


def test_the_store_sees_the_length_and_never_the_key(server: Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PIXELS)
    script_upload(server)
    client.datasets.upload(tmp_path, name="cohort-7", progress=False)
    headers = puts(server)[0].headers
    assert headers["Content-Length"] == str(len(PIXELS))
    assert headers["Transfer-Encoding"] is None
    assert headers["Authorization"] is None
    assert headers["Content-Type"] is None


def test_known_bytes_are_not_sent_and_equal_bytes_are_sent_once(server: Server, client: Client, tmp_path: Path) -> None:
    for name, data in {"a.png": b"known", "b.png": b"twin", "c.png": b"twin"}.items():
        (tmp_path / name).write_bytes(data)
    script_upload(server, known=frozenset({"a.png"}))
    client.datasets.upload(tmp_path, name="cohort-7", progress=False)
    assert [put.body for put in puts(server)] == [b"twin"]


def test_uploads_are_asked_for_in_batches(
    server: Server, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overtile.datasets.BATCH", 4)
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes(bytes([number]))
    script_upload(server)
    client.datasets.upload(tmp_path, name="cohort-7", progress=False)
    asked = server.requests("POST", f"/v1/datasets/{DATASET['id']}/uploads")
    assert [len(seen.json["files"]) for seen in asked] == [4, 4, 2]
    assert len(puts(server)) == 10


def test_a_dataset_of_that_name_is_reused(server: Server, client: Client) -> None:
    server.answer("POST", "/v1/datasets", problem(409, "the name is taken"))
    server.answer("GET", "/v1/datasets", Reply(body={"items": [DATASET], "next_cursor": None}))
    assert str(client.datasets.ensure("cohort-7").id) == DATASET["id"]
    assert server.requests("GET", "/v1/datasets")[0].query["name"] == ["cohort-7"]


@pytest.mark.parametrize("fault", [Reply(503), Reply(cut=True)])
def test_a_broken_put_is_sent_again_from_the_start(
    server: Server, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Reply
) -> None:
    (tmp_path / "a.png").write_bytes(PIXELS)
    server.answer("PUT", f"/store/{hashlib.sha256(PIXELS).hexdigest()}", fault)
    script_upload(server)
    client.datasets.upload(tmp_path, name="cohort-7")
    assert [put.body for put in puts(server)] == [PIXELS, PIXELS]
    assert capsys.readouterr().err.endswith("uploading: 350.0 kB of 350.0 kB\n")  # and not twice as much


def test_an_expired_url_is_replaced_once(server: Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PIXELS)
    server.answer("PUT", f"/store/{hashlib.sha256(PIXELS).hexdigest()}", Reply(403, b"<Error>expired</Error>"))
    script_upload(server)
    client.datasets.upload(tmp_path, name="cohort-7", progress=False)
    assert len(server.requests("POST", f"/v1/datasets/{DATASET['id']}/uploads")) == 2


def test_a_refusing_store_is_quoted_without_the_signature(server: Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PIXELS)
    server.answer("PUT", f"/store/{hashlib.sha256(PIXELS).hexdigest()}", Reply(400, b"EntityTooLarge"))
    script_upload(server)
    with pytest.raises(overtile.StoreError, match="EntityTooLarge") as caught:
        client.datasets.upload(tmp_path, name="cohort-7", progress=False)
    assert "signature" not in str(caught.value)


def test_a_file_that_changes_while_it_is_sent_never_reaches_the_store_whole(
    server: Server, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PIXELS)
    script_upload(server)
    plain = server._replies["POST", f"/v1/datasets/{DATASET['id']}/uploads"].pop()

    def change_then_answer(seen: Seen) -> Reply:
        path.write_bytes(PIXELS.upper())
        assert not isinstance(plain, Reply)
        return plain(seen)

    server.answer("POST", f"/v1/datasets/{DATASET['id']}/uploads", change_then_answer)
    with pytest.raises(overtile.LocalFileError, match=r"a\.png changed while it was uploaded"):
        client.datasets.upload(path, name="cohort-7", progress=False)
    assert not any(len(put.body) == len(PIXELS) for put in puts(server))
    assert not server.requests("POST", f"/v1/datasets/{DATASET['id']}/versions")


# --- jobs ---------------------------------------------------------------------------------------------------------


def test_a_lost_answer_to_a_submit_is_asked_for_again_with_the_same_key(server: Server, client: Client) -> None:
    server.answer("POST", "/v1/jobs", Reply(cut=True), problem(503, "busy"), job("queued"))
    version = DatasetVersion.model_validate(VERSION)
    ordered = client.jobs.submit(kind="segment", dataset_version=version, model="nuclei", threshold=0.5)
    assert ordered.state == "queued"
    keys = [seen.headers["Idempotency-Key"] for seen in server.seen]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert server.seen[0].json == {
        "kind": "segment", "dataset_version": VERSION["id"], "model": "nuclei", "threshold": 0.5
    }  # fmt: skip


def test_each_submit_has_a_key_of_its_own_unless_one_is_given(server: Server, client: Client) -> None:
    server.answer("POST", "/v1/jobs", job("queued"))
    version = DatasetVersion.model_validate(VERSION)
    client.jobs.submit(kind="train", dataset_version=version, model="m", network={"name": "unet"})
    client.jobs.submit(kind="train", dataset_version=version, model="m")
    client.jobs.submit(kind="train", dataset_version=version, model="m", idempotency_key="mine")
    first, second, third = (seen.headers["Idempotency-Key"] for seen in server.seen)
    assert first != second
    assert third == "mine"


def test_a_list_is_read_page_by_page(server: Server, client: Client) -> None:
    one = {"id": JOB_ID, "kind": "train", "state": "failed", "created_at": NOW, "a_new_field": 1}
    server.answer(
        "GET", "/v1/jobs",
        Reply(body={"items": [one, one], "next_cursor": "second"}), Reply(body={"items": [one], "next_cursor": None}),
    )  # fmt: skip
    assert len(list(client.jobs.list(state="failed"))) == 3
    first, second = (seen.query for seen in server.seen)
    assert first == {"state": ["failed"], "limit": ["100"]}
    assert second == {**first, "cursor": ["second"]}


def test_a_list_that_never_ends_is_noticed(server: Server, client: Client) -> None:
    server.answer("GET", "/v1/models", Reply(body={"items": [], "next_cursor": "again"}))
    with pytest.raises(overtile.UnexpectedAnswer, match="successor"):
        list(client.models.list())


def test_waiting_asks_ever_more_rarely_until_the_job_ends(server: Server, client: Client, sleeper: Sleeper) -> None:
    server.answer("GET", JOB_PATH, *[job("running")] * 10, job("succeeded"))
    assert client.jobs.wait(JOB_ID, progress=False).state == "succeeded"
    assert sleeper.slept == sorted(sleeper.slept)
    assert (sleeper.slept[0], sleeper.slept[-1]) == (0.05, 1.0)


@pytest.mark.parametrize("state", ["partial", "cancelled"])
def test_a_job_that_ended_without_failing_is_returned(server: Server, client: Client, state: str) -> None:
    server.answer("GET", JOB_PATH, job(state))
    assert client.jobs.wait(JOB_ID, progress=False).state == state


def test_a_failed_job_raises_its_cause_and_every_failed_image(server: Server, client: Client) -> None:
    cause = {"type": "input", "detail": "no image could be read"}
    images = [
        {"id": JOB_ID, "name": "good.png", "state": "done", "facts": {}, "error": None},
        {"id": JOB_ID, "name": "bad.png", "state": "failed", "facts": {}, "error": {"type": "input", "detail": "torn"}},
    ]
    server.answer("GET", JOB_PATH, job("failed", error=cause))
    server.answer("GET", f"{JOB_PATH}/images", Reply(body={"items": images, "next_cursor": None}))
    with pytest.raises(overtile.JobFailed, match=r"no image could be read\n  bad\.png: torn$") as caught:
        client.jobs.wait(JOB_ID, progress=False)
    assert [image.name for image in caught.value.images] == ["bad.png"]


def test_waiting_gives_up_in_time_and_says_how_far_it_came(server: Server, client: Client, sleeper: Sleeper) -> None:
    server.answer("GET", JOB_PATH, job("running", progress={"blocks": 12, "done": 3}))
    with pytest.raises(TimeoutError, match="is running after 5 s, 3 of 12 blocks done"):
        client.jobs.wait(JOB_ID, timeout=5, progress=False)
    assert sum(sleeper.slept) == pytest.approx(5)


def test_waiting_survives_a_restart_of_the_api(server: Server, client: Client, sleeper: Sleeper) -> None:
    server.answer("GET", JOB_PATH, job("running"), *[Reply(502)] * 20, job("succeeded"))
    assert client.jobs.wait(JOB_ID, progress=False).state == "succeeded"
    assert sum(sleeper.slept) < 60


def test_waiting_for_an_api_that_stays_away_ends(server: Server, client: Client, sleeper: Sleeper) -> None:
    server.answer("GET", JOB_PATH, job("running"), Reply(502))
    with pytest.raises(overtile.ServerError):
        client.jobs.wait(JOB_ID, progress=False)
    assert 60 <= sum(sleeper.slept) < 90


def test_cancelling_returns_the_job(server: Server, client: Client) -> None:
    server.answer("POST", f"{JOB_PATH}/cancel", Reply(202, {**job("cancelling").body}))
    assert client.jobs.cancel(JOB_ID).state == "cancelling"


# --- downloads ----------------------------------------------------------------------------------------------------


def script_download(server: Server, *artifacts: dict[str, Any]) -> None:
    server.answer("GET", f"{JOB_PATH}/artifacts", Reply(body={"items": list(artifacts), "next_cursor": None}))


def test_artifacts_are_fetched_under_their_names(server: Server, client: Client, tmp_path: Path) -> None:
    script_download(server, artifact(server), artifact(server, "manifest.json", b"{}", "manifest"))
    server.answer("GET", "/store/mask", Reply(body=PIXELS))
    server.answer("GET", "/store/manifest", Reply(body=b"{}"))
    paths = client.jobs.download(JOB_ID, tmp_path / "out", progress=False)
    assert paths == [tmp_path / "out/a.png/mask.tif", tmp_path / "out/manifest.json"]
    assert paths[0].read_bytes() == PIXELS
    assert server.requests("GET", "/store/mask")[0].headers["Authorization"] is None


def test_only_the_kinds_asked_for_are_fetched(server: Server, client: Client, tmp_path: Path) -> None:
    script_download(server, artifact(server), artifact(server, "manifest.json", b"{}", "manifest"))
    server.answer("GET", "/store/manifest", Reply(body=b"{}"))
    assert client.jobs.download(JOB_ID, tmp_path, kinds="manifest", progress=False) == [tmp_path / "manifest.json"]


def test_a_file_that_is_there_and_right_is_not_fetched_again(server: Server, client: Client, tmp_path: Path) -> None:
    script_download(server, artifact(server))
    (tmp_path / "a.png").mkdir()
    (tmp_path / "a.png/mask.tif").write_bytes(PIXELS)
    assert client.jobs.download(JOB_ID, tmp_path, progress=False) == [tmp_path / "a.png/mask.tif"]
    assert not server.requests("GET", "/store/mask")


def test_a_file_that_is_there_and_wrong_is_replaced(server: Server, client: Client, tmp_path: Path) -> None:
    script_download(server, artifact(server, "mask.tif"))
    (tmp_path / "mask.tif").write_bytes(PIXELS.upper())
    server.answer("GET", "/store/mask", Reply(body=PIXELS))
    client.jobs.download(JOB_ID, tmp_path, progress=False)
    assert (tmp_path / "mask.tif").read_bytes() == PIXELS


@pytest.mark.parametrize("sent", [PIXELS.upper(), PIXELS + b"more", PIXELS[:-1], b""])
def test_wrong_bytes_are_never_kept(server: Server, client: Client, tmp_path: Path, sent: bytes) -> None:
    script_download(server, artifact(server, "mask.tif"))
    server.answer("GET", "/store/mask", Reply(body=sent))
    with pytest.raises(overtile.ChecksumMismatch, match=r"mask\.tif"):
        client.jobs.download(JOB_ID, tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests("GET", "/store/mask")) == 5


def test_a_download_that_breaks_off_is_started_again(server: Server, client: Client, tmp_path: Path) -> None:
    script_download(server, artifact(server, "mask.tif"))
    torn = Reply(body=PIXELS[:1000], announced=len(PIXELS))
    server.answer("GET", "/store/mask", torn, Reply(body=PIXELS.upper()), Reply(body=PIXELS))
    [path] = client.jobs.download(JOB_ID, tmp_path, progress=False)
    assert path.read_bytes() == PIXELS
    assert [entry.name for entry in tmp_path.iterdir()] == ["mask.tif"]


def test_an_expired_artifact_url_is_renewed(server: Server, client: Client, tmp_path: Path) -> None:
    old, new = artifact(server, "mask.tif"), artifact(server, "mask.tif")
    new["url"] = f"{server.url}/store/fresh"
    first, second = (Reply(body={"items": [entry], "next_cursor": None}) for entry in (old, new))
    server.answer("GET", f"{JOB_PATH}/artifacts", first, second)
    server.answer("GET", "/store/mask", Reply(403))
    server.answer("GET", "/store/fresh", Reply(body=PIXELS))
    assert client.jobs.download(JOB_ID, tmp_path, progress=False) == [tmp_path / "mask.tif"]


@pytest.mark.parametrize(
    "name", ["../a", "/etc/a", "a/../../b", "a/../b", "..", "", ".", "a\\..\\b", "C:/a", "C:a", "a\nb", "a\0b"]
)
def test_a_name_that_leaves_the_folder_is_refused(server: Server, client: Client, tmp_path: Path, name: str) -> None:
    script_download(server, artifact(server, name))
    server.answer("GET", "/store/mask", Reply(body=PIXELS))
    with pytest.raises(overtile.UnsafeName):
        client.jobs.download(JOB_ID, tmp_path / "out", progress=False)
    assert list(tmp_path.rglob("*")) == []


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    with pytest.raises(overtile.UnsafeName, match="link"):
        place("link/a", tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_named(server: Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    script_download(server, artifact(server))
    with pytest.raises(overtile.LocalFileError, match=r"cannot write .*out"):
        client.jobs.download(JOB_ID, tmp_path / "out", progress=False)


# --- parallel work and progress -----------------------------------------------------------------------------------


def test_items_are_taken_only_as_threads_come_free() -> None:
    items = iter(range(1000))
    results = in_parallel(lambda item: item * 2, items)
    assert next(results) == 0
    assert next(items) < 20


def test_the_first_error_ends_the_work() -> None:
    def fail(item: int) -> None:
        raise overtile.LocalFileError(str(item))

    with pytest.raises(overtile.LocalFileError, match="0"):
        list(in_parallel(fail, range(1000)))


def test_a_part_that_starts_again_is_not_counted_twice() -> None:
    with meter("uploading", shown=False, unit="bytes") as bar:
        part = bar.part()
        part.advance(70)
        part.restart()
        part.advance(100)
    assert bar.done == 100


def test_away_from_a_terminal_progress_is_plain_lines_on_stderr(
    server: Server, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    running = {"progress": {"blocks": 4, "done": 1}, "stages": [{"stage": "predict", "blocks": 4, "done": 1}]}
    server.answer("GET", JOB_PATH, job("running", **running), job("succeeded", progress={"blocks": 4, "done": 4}))
    client.jobs.wait(JOB_ID)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "segment: succeeded: 4/4 blocks\n")


def test_a_training_is_shown_by_its_epochs(
    server: Server, client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overtile.progress.LINE_AT_MOST_EVERY", 0.0)
    training = {"kind": "train", "spec": {"parameters": {"epochs": 12}}, "note": {"epoch": 3, "loss": 0.25}}
    server.answer("GET", JOB_PATH, job("running", **training), job("succeeded"))
    client.jobs.wait(JOB_ID)
    assert "train, loss 0.25: 3/12 epochs\n" in capsys.readouterr().err


def test_on_a_terminal_progress_is_a_bar(
    server: Server, client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    server.answer("GET", JOB_PATH, job("running"), job("succeeded", progress={"blocks": 4, "done": 4}))
    client.jobs.wait(JOB_ID)
    assert "━━━" in capsys.readouterr().err
