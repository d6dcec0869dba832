"""Submitting, listing and waiting."""

import overtile
import pytest
from overtile import Client, Dataset, DatasetVersion

from tests.unit.sdk.scripted_server import DATASET, JOB_ID, JOB_PATH, NOW, VERSION, Reply, Server, Sleeper, job, problem


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


def test_an_order_may_name_its_dataset_and_leave_the_rest_to_a_recipe(server: Server, client: Client) -> None:
    server.answer("POST", "/v1/jobs", job("queued"))
    client.jobs.submit(kind="train", recipe="unet-dsb2018", dataset="cohort-7")
    client.jobs.submit(kind="segment", dataset=Dataset.model_validate(DATASET), model="nuclei@production")
    assert [seen.json for seen in server.seen] == [
        {"kind": "train", "recipe": "unet-dsb2018", "dataset": "cohort-7"},
        {"kind": "segment", "dataset": "cohort-7", "model": "nuclei@production"},
    ]


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
    server.answer("GET", JOB_PATH, *[job("running")] * 14, job("succeeded"))
    assert client.jobs.wait(JOB_ID, progress=False).state == "succeeded"
    assert sleeper.slept == sorted(sleeper.slept)
    assert (sleeper.slept[0], sleeper.slept[-1]) == (0.5, 5.0)


def test_waiting_lets_the_platform_answer_when_the_job_ends(server: Server, client: Client) -> None:
    server.answer("GET", JOB_PATH, *[job("running")] * 10, job("succeeded"))
    client.jobs.wait(JOB_ID, progress=False)
    waits = [float(seen.query["wait"][0]) for seen in server.seen if "wait" in seen.query]
    assert len(waits) == 10
    assert max(waits) == 5.0


@pytest.mark.parametrize("state", ["partial", "cancelled"])
def test_a_job_that_ended_without_failing_is_returned(server: Server, client: Client, state: str) -> None:
    server.answer("GET", JOB_PATH, job(state))
    assert client.jobs.wait(JOB_ID, progress=False).state == state


def test_waiting_says_what_is_missing_of_a_partial_job(
    server: Server, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    cause = {"type": "input", "detail": "1 of 4 images failed; torn.png: the file is empty"}
    server.answer("GET", JOB_PATH, job("partial", error=cause), job("partial", error=cause))
    client.jobs.wait(JOB_ID)
    assert "1 of 4 images failed; torn.png: the file is empty\n" in capsys.readouterr().err
    client.jobs.wait(JOB_ID, progress=False)
    assert capsys.readouterr().err == ""


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
