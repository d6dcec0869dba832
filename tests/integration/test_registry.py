"""What things are called: aliases of model versions, datasets by name, recipes; and what a job keeps of it."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.database import Sessions
from shared.domain import models, workspaces
from shared.schemas import recipes
from shared.schemas.outputs import DEFAULT_OUTPUTS
from shared.schemas.recipes import Recipe
from shared.tables import Dataset, DatasetVersion, ModelAliasMove, ModelVersion, Workspace
from shared.tables.models import ModelState
from tests.integration.test_api import assert_problem
from tests.rows import CONTRACT, add_model, add_version

PRODUCTION = "/v1/models/nuclei/aliases/production"
CHECKPOINT = {"checkpoint.safetensors": "c" * 64}


@pytest.fixture
def version(session: Session, workspace: Workspace) -> ModelVersion:
    """Version 1 of the model `nuclei`, ready."""
    return add_model(session, workspace)


@pytest.fixture
def images(session: Session, workspace: Workspace) -> DatasetVersion:
    return add_version(session, workspace, ["a.png"])


def add_next(session: Session, first: ModelVersion, *, number: int = 2, **changes: Any) -> ModelVersion:
    """A further version of the model, ready unless told otherwise."""
    row = {
        "workspace_id": first.workspace_id, "model_id": first.model_id, "number": number, "state": ModelState.READY,
        "digest": "e" * 64, "files": {}, "contract": CONTRACT.model_dump(mode="json"), "card": {},
    }  # fmt: skip
    version = ModelVersion(**{**row, **changes})
    with session.begin():
        session.add(version)
    return version


def segment(client: TestClient, images: DatasetVersion, **changes: Any) -> Any:
    """The spec of a job."""
    order = {"kind": "segment", "dataset_version": str(images.id), "model": "nuclei", **changes}
    answer = client.post("/v1/jobs", json=order)
    assert answer.status_code == 202, answer.text
    return answer.json()["spec"]


def promote(client: TestClient, number: int) -> dict[str, int]:
    """The model's aliases after it."""
    answer = client.put(PRODUCTION, json={"version": number})
    assert answer.status_code == 200, answer.text
    aliases: dict[str, int] = answer.json()["aliases"]
    return aliases


def test_an_alias_stands_for_the_version_it_was_moved_to_last(
    client: TestClient, session: Session, version: ModelVersion, images: DatasetVersion
) -> None:
    add_next(session, version)
    assert promote(client, 1) == {"production": 1}
    ordered = segment(client, images, model="nuclei@production")["model"]
    assert (ordered["version"], ordered["version_id"], ordered["alias"]) == (1, str(version.id), "production")
    assert promote(client, 2) == {"production": 2}
    assert segment(client, images, model="nuclei@production")["model"]["version"] == 2
    assert segment(client, images, model="nuclei@1")["model"]["alias"] is None
    assert client.get("/v1/models/nuclei").json()["aliases"] == {"production": 2}
    assert client.get("/v1/models").json()["items"][0]["aliases"] == {"production": 2}


def test_a_job_keeps_the_version_it_was_ordered_with(
    client: TestClient, session: Session, version: ModelVersion, images: DatasetVersion
) -> None:
    add_next(session, version)
    promote(client, 1)
    order = {"kind": "segment", "dataset_version": str(images.id), "model": "nuclei@production"}
    first = client.post("/v1/jobs", json=order, headers={"Idempotency-Key": "once"}).json()
    promote(client, 2)
    again = client.post("/v1/jobs", json=order, headers={"Idempotency-Key": "once"}).json()
    assert again["id"] == first["id"]
    assert again["spec"]["model"]["version"] == 1


def test_rolling_back_goes_through_the_versions_before_one_by_one(
    client: TestClient, session: Session, version: ModelVersion
) -> None:
    for number in (2, 3):
        add_next(session, version, number=number)
    for number in (1, 3, 2):
        promote(client, number)
    assert client.post(f"{PRODUCTION}:rollback").json()["aliases"] == {"production": 3}
    assert client.post(f"{PRODUCTION}:rollback").json()["aliases"] == {"production": 1}
    assert_problem(client.post(f"{PRODUCTION}:rollback"), 409, "none to go back to")
    assert promote(client, 2) == {"production": 2}
    assert client.post(f"{PRODUCTION}:rollback").json()["aliases"] == {"production": 1}


def test_promoting_the_same_version_again_changes_nothing(
    client: TestClient, session: Session, version: ModelVersion
) -> None:
    add_next(session, version)
    for number in (1, 2, 2):
        promote(client, number)
    assert client.post(f"{PRODUCTION}:rollback").json()["aliases"] == {"production": 1}


def test_only_what_is_ready_can_be_promoted(client: TestClient, session: Session, version: ModelVersion) -> None:
    add_next(session, version, state=ModelState.REGISTERED)
    assert_problem(client.put(PRODUCTION, json={"version": 2}), 409, "registered, not ready")
    assert_problem(client.put(PRODUCTION, json={"version": 3}), 404, "no version 3")
    assert_problem(client.put("/v1/models/nobody/aliases/production", json={"version": 1}), 404, "nobody")
    assert client.get("/v1/models/nuclei").json()["aliases"] == {}


def test_a_removed_alias_is_not_known_any_more_and_begins_anew(
    client: TestClient, session: Session, version: ModelVersion, images: DatasetVersion
) -> None:
    add_next(session, version)
    promote(client, 1)
    for _ in range(2):
        assert client.delete(PRODUCTION).json()["aliases"] == {}
    assert_problem(client.post(f"{PRODUCTION}:rollback"), 404, "no alias 'production'")
    order = {"kind": "segment", "dataset_version": str(images.id), "model": "nuclei@production"}
    assert_problem(client.post("/v1/jobs", json=order), 404, "nuclei@2")
    promote(client, 2)
    assert_problem(client.post(f"{PRODUCTION}:rollback"), 409, "none to go back to")


def test_an_unknown_alias_is_refused_with_those_there_are(
    client: TestClient, version: ModelVersion, images: DatasetVersion
) -> None:
    promote(client, 1)
    order = {"kind": "segment", "dataset_version": str(images.id), "model": "nuclei@prodution"}
    assert_problem(client.post("/v1/jobs", json=order), 404, "nuclei@production, nuclei@1")


def test_what_could_be_a_number_or_would_not_fit_a_reference_is_no_alias(
    client: TestClient, version: ModelVersion
) -> None:
    for alias in ("3", "3a", "-a", "a b", "a@b", "a%00", "x" * 200):
        answer = client.put(f"/v1/models/nuclei/aliases/{alias}", json={"version": 1})
        assert_problem(answer, 422, "alias")


def test_moves_at_the_same_moment_are_made_one_after_the_other(
    sessions: Sessions, session: Session, workspace: Workspace, version: ModelVersion
) -> None:
    add_next(session, version)

    def move(number: int) -> None:
        with sessions() as own:
            models.promote(own, workspace.id, "nuclei", "production", 1 + number % 2)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(move, range(16)))
    with session.begin():
        moves = session.scalars(select(ModelAliasMove).order_by(ModelAliasMove.number)).all()
    assert [move.number for move in moves] == list(range(1, len(moves) + 1))
    assert all(after.from_version_id == before.to_version_id for before, after in pairwise(moves))


def test_no_workspace_moves_anothers_aliases(client: TestClient, session: Session, version: ModelVersion) -> None:
    promote(client, 1)
    other = workspaces.create(session, "other lab")
    client.headers["Authorization"] = f"Bearer {workspaces.issue_key(session, other, label='test')}"
    assert_problem(client.put(PRODUCTION, json={"version": 1}), 404, "nuclei")
    assert_problem(client.post(f"{PRODUCTION}:rollback"), 404, "nuclei")
    assert_problem(client.delete(PRODUCTION), 404, "nuclei")
    own = add_version(session, other, ["a.png"])
    order = {"kind": "segment", "dataset_version": str(own.id), "model": "nuclei@production"}
    assert_problem(client.post("/v1/jobs", json=order), 404, "ready are: none")


def test_a_dataset_is_ordered_by_its_name(
    client: TestClient, session: Session, version: ModelVersion, images: DatasetVersion
) -> None:
    with session.begin():
        name = session.get_one(Dataset, images.dataset_id).name
        row = {"workspace_id": images.workspace_id, "dataset_id": images.dataset_id, "images": 0, "masks": 2}
        session.add(DatasetVersion(**row, number=2, digest="newer"))
    order = {"kind": "segment", "dataset": f"{name}@1", "model": "nuclei"}
    assert client.post("/v1/jobs", json=order).json()["spec"]["dataset_version"]["id"] == str(images.id)
    assert_problem(client.post("/v1/jobs", json={**order, "dataset": name}), 422, "masks only")  # the newest
    assert_problem(client.post("/v1/jobs", json={**order, "dataset": f"{name}@7"}), 404, "its newest is 2")
    assert_problem(client.post("/v1/jobs", json={**order, "dataset": "nobody"}), 404, f"there are: {name}")
    both = {**order, "dataset_version": str(images.id)}
    assert_problem(client.post("/v1/jobs", json=both), 422, "either dataset or dataset_version")


def test_the_threshold_is_the_one_that_the_version_recommends(
    client: TestClient, session: Session, version: ModelVersion, images: DatasetVersion
) -> None:
    usual = {"views": 1, "empty_tiles": "auto", "outputs": list(DEFAULT_OUTPUTS)}

    def order(**wishes: float) -> dict[str, object]:
        parameters = segment(client, images, **wishes)["parameters"]
        assert parameters["objects"]["closing"] == parameters["closing"]
        return {name: value for name, value in parameters.items() if name != "objects"}

    assert order() == {"threshold": 0.5, "closing": 0, **usual}
    advice = {"threshold": 0.35, "closing": 2}
    add_next(session, version, contract={**CONTRACT.model_dump(mode="json"), **advice})
    assert order() == {**advice, **usual}
    assert order(threshold=0.6) == {"threshold": 0.6, "closing": 2, **usual}


def test_a_model_of_before_augmentation_is_not_asked_for_it(
    client: TestClient, session: Session, version: ModelVersion, images: DatasetVersion
) -> None:
    order = {"kind": "segment", "dataset_version": str(images.id), "model": "nuclei", "test_time_augmentation": "all"}
    refused = client.post("/v1/jobs", json=order)
    assert (refused.status_code, "export it anew" in refused.json()["detail"]) == (409, True)
    add_next(session, version, contract={**CONTRACT.model_dump(mode="json"), "protocol": 2})
    assert client.post("/v1/jobs", json=order).json()["spec"]["parameters"]["views"] == 8


def test_a_training_starts_from_the_version_there_was_when_it_was_ordered(
    client: TestClient, session: Session, workspace: Workspace, version: ModelVersion
) -> None:
    second = add_next(session, version, files={**CHECKPOINT, "model.onnx": "d" * 64})
    promote(client, 2)
    pairs = add_version(session, workspace, ["images/a.png", "images/b.png", "masks/a.png", "masks/b.png"])
    order = {
        "kind": "train",
        "dataset_version": str(pairs.id),
        "model": "mine",
        "start": {"model": "nuclei@production"},
    }
    spec = client.post("/v1/jobs", json=order).json()["spec"]
    assert spec["start"] == {
        "model_id": str(version.model_id), "version_id": str(second.id), "name": "nuclei", "number": 2,
        "files": CHECKPOINT,
    }  # fmt: skip
    assert spec["dataset_version"]["id"] == str(pairs.id)
    assert not {"dataset", "dataset_version"} & set(spec["parameters"])
    assert_problem(
        client.post("/v1/jobs", json={**order, "start": {"model": "nuclei@1"}}), 409, "without its checkpoint"
    )
    assert_problem(client.post("/v1/jobs", json={**order, "start": {"model": "nuclei@9"}}), 404, "nuclei@9")


def test_recipes_are_listed_by_name(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(recipes.RECIPES):
        monkeypatch.delitem(recipes.RECIPES, name)
    assert client.get("/v1/recipes").json() == {"items": [], "next_cursor": None}
    monkeypatch.setitem(recipes.RECIPES, "b", Recipe("Title", "Source", {"network": {"name": "unet"}}, {"epochs": 2}))
    monkeypatch.setitem(recipes.RECIPES, "a", Recipe("Other", "Source", {}))
    first, second = client.get("/v1/recipes").json()["items"]
    assert first == {"name": "a", "title": "Other", "source": "Source", "fields": {}, "small": {}}
    assert second["fields"] == {"network": {"name": "unet"}}
    assert second["small"] == {"epochs": 2}


def test_every_recipe_of_the_platform_can_be_listed(client: TestClient) -> None:
    assert [item["name"] for item in client.get("/v1/recipes").json()["items"]] == sorted(recipes.RECIPES)


def test_what_was_measured_when_a_version_was_loaded_is_shown_with_it(
    client: TestClient, session: Session, version: ModelVersion
) -> None:
    assert client.get("/v1/models/nuclei/versions/1").json()["serving"] is None
    engine = {"engine": "openvino", "version": "2026.4.1", "precision": "bf16", "device": "CPU"}
    measured = {"engine": engine, "mean_difference": 0.01, "largest_difference": 1, "seam": 0, "beyond_halo": 0}
    add_next(session, version, serving=measured)
    assert client.get("/v1/models/nuclei/versions/2").json()["serving"] == measured
    assert client.get("/v1/models/nuclei").json()["versions"][0]["serving"] == measured


def test_what_tiles_are_worth_is_shown_with_a_version(
    client: TestClient, session: Session, version: ModelVersion
) -> None:
    tolerant = {"exactness": "tolerant", "reach": 34, "bound": 1, "bytes_per_pixel": 1024}
    add_next(session, version, contract={**CONTRACT.model_dump(mode="json"), **tolerant})
    shown = client.get("/v1/models/nuclei/versions/2").json()["contract"]
    assert {name: shown[name] for name in tolerant} == tolerant
    assert client.get("/v1/models/nuclei/versions/1").json()["contract"]["reach"] is None
