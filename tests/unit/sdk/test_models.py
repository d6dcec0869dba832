"""Models, their aliases, and recipes."""

import overtile
import pytest
from overtile import Client

from tests.unit.sdk.scripted_server import JOB_ID, NOW, Reply, Server, problem

ALIAS = "/v1/models/nuclei/aliases/production"


def model(**aliases: int) -> Reply:
    return Reply(body={"id": JOB_ID, "name": "nuclei", "created_at": NOW, "versions": [], "aliases": aliases})


def test_a_version_is_promoted_also_after_a_lost_answer(server: Server, client: Client) -> None:
    server.answer("PUT", ALIAS, Reply(cut=True), model(production=3))
    assert client.models.promote("nuclei", 3, alias="production").aliases == {"production": 3}
    assert [seen.json for seen in server.seen] == [{"version": 3}] * 2


def test_a_rollback_is_sent_once_because_twice_would_be_two_steps(server: Server, client: Client) -> None:
    server.answer("POST", f"{ALIAS}:rollback", Reply(cut=True), model(production=1))
    with pytest.raises(overtile.ConnectionFailed):
        client.models.rollback("nuclei", alias="production")
    assert len(server.seen) == 1
    assert client.models.rollback("nuclei", alias="production").aliases == {"production": 1}


def test_a_rollback_without_a_version_before_is_a_conflict(server: Server, client: Client) -> None:
    server.answer("POST", f"{ALIAS}:rollback", problem(409, "none to go back to"))
    with pytest.raises(overtile.Conflict, match="none to go back to"):
        client.models.rollback("nuclei", alias="production")


def test_an_alias_is_removed(server: Server, client: Client) -> None:
    server.answer("DELETE", ALIAS, model())
    assert client.models.remove_alias("nuclei", "production").aliases == {}


def test_names_cannot_leave_their_place_in_the_path(server: Server, client: Client) -> None:
    with pytest.raises(overtile.NotFound):
        client.models.promote("a/b", 1, alias="../c")
    assert server.seen[0].path == "/v1/models/a%2Fb/aliases/..%2Fc"


def test_recipes_are_listed(server: Server, client: Client) -> None:
    recipe = {"name": "starter", "title": "Begin here", "source": "us", "fields": {"epochs": 40}, "small": {}}
    server.answer("GET", "/v1/recipes", Reply(body={"items": [recipe], "next_cursor": None}))
    (listed,) = client.recipes.list()
    assert (listed.name, listed.fields, listed.small) == ("starter", {"epochs": 40}, {})
