"""How a client is made, and what it makes of errors."""

import socket

import overtile
import pytest
from overtile import Client, Clock
from overtile.backoff import Backoff, parse_retry_after

from tests.unit.sdk.scripted_server import DATASET, JOB_ID, JOB_PATH, Reply, Server, Sleeper, job, problem


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
