"""Models that come in by their files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy.orm import Session

from services.api import admin
from shared.domain import blocks, jobs, models, workspaces
from shared.domain.blocks import Outcome
from shared.domain.dispatch import Dispatcher
from shared.domain.imports import import_model
from shared.domain.model_files import NEEDED, ModelFiles
from shared.errors import Conflict, Invalid
from shared.settings import Settings
from shared.storage import Storage, model_key
from shared.tables import ModelVersion, Workspace
from shared.tables.jobs import JobKind, JobState, Stage
from shared.tables.models import ModelState
from tests.rows import CONTRACT, make_dispatcher, must_claim, work_off

CAUSE = {"type": "input", "detail": "off its known answer"}


def make_files(graph: bytes = b"graph", **changes: bytes) -> dict[str, bytes]:
    """What an export makes, as far as an import looks at it."""
    digest = hashlib.sha256(graph).hexdigest()
    return {
        "model.onnx": graph,
        "model.py": b"backend",
        "config.json": json.dumps({"parameters": {"digest": {"string_value": digest}}}).encode(),
        "contract.json": CONTRACT.model_dump_json().encode(),
        "card.json": b"{}",
        "checkpoint.safetensors": b"weights",
        **changes,
    }


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir()
    for name, body in files.items():
        (folder / name).write_bytes(body)
    return folder


@pytest.fixture
def dispatcher() -> Dispatcher:
    return make_dispatcher()


@pytest.fixture
def bring(session: Session, storage: Storage, dispatcher: Dispatcher, workspace: Workspace) -> Any:
    """Import files as the model `nuclei`."""

    def bring(files: Mapping[str, bytes], **options: Any) -> ModelVersion:
        return import_model(session, storage, dispatcher, workspace.id, ModelFiles.of("nuclei", files), **options)

    return bring


def load(session: Session, dispatcher: Dispatcher, version: ModelVersion) -> list[Stage]:
    """The worker's part: the stages that it went through."""
    job = jobs.get(session, version.workspace_id, version.id)
    return [claim.block.stage for claim in work_off(session, dispatcher, job)]


def test_an_imported_model_is_ready_once_a_worker_has_loaded_it(
    session: Session, storage: Storage, dispatcher: Dispatcher, workspace: Workspace, bring: Any
) -> None:
    files = make_files()
    version = bring(files)
    assert version.state is ModelState.REGISTERED
    assert {name: storage.get(model_key(version.model_id, version.id, name)) for name in version.files} == files
    assert load(session, dispatcher, version) == [Stage.LOAD, Stage.CLOSE]
    job = jobs.get(session, workspace.id, version.id)
    assert (job.kind, job.state) == (JobKind.IMPORT, JobState.SUCCEEDED)
    ready = models.get_version(session, workspace.id, "nuclei", 1)
    assert (ready.state, ready.digest) == (ModelState.READY, hashlib.sha256(b"graph").hexdigest())


def test_what_a_worker_measured_is_kept_with_the_version_it_loaded(
    session: Session, dispatcher: Dispatcher, workspace: Workspace, bring: Any
) -> None:
    version = bring(make_files())
    claim = must_claim(session, jobs.get(session, workspace.id, version.id))
    measured = {"engine": None, "mean_difference": 0.0, "largest_difference": 0, "seam": 0, "beyond_halo": 0}
    assert blocks.commit(session, dispatcher, claim, Outcome(result={"seconds": {}, "serving": measured}))
    ready = models.get_version(session, workspace.id, "nuclei", 1)
    assert (ready.state, ready.serving) == (ModelState.READY, measured)


def test_what_a_late_worker_measured_is_not_kept(
    session: Session, dispatcher: Dispatcher, workspace: Workspace, bring: Any
) -> None:
    version = bring(make_files())
    job = jobs.get(session, workspace.id, version.id)
    late = must_claim(session, job)
    assert blocks.give_back(session, dispatcher, late)
    must_claim(session, job)
    assert not blocks.commit(session, dispatcher, late, Outcome(result={"serving": {"seam": 9}}))
    assert models.get_version(session, workspace.id, "nuclei", 1).serving is None


def test_an_alias_waits_until_the_import_is_ready(
    session: Session, dispatcher: Dispatcher, workspace: Workspace, bring: Any
) -> None:
    version = bring(make_files(), alias="production")
    assert models.get(session, workspace.id, "nuclei").aliases == {}
    load(session, dispatcher, version)
    assert models.get(session, workspace.id, "nuclei").aliases == {"production": 1}


def test_the_same_files_are_imported_once(session: Session, dispatcher: Dispatcher, bring: Any) -> None:
    first = bring(make_files())
    assert bring(make_files()).id == first.id
    load(session, dispatcher, first)
    again = bring(make_files(), alias="production")
    assert (again.id, again.state) == (first.id, ModelState.READY)
    model = models.get(session, first.workspace_id, "nuclei")
    assert model.aliases == {"production": 1}
    other = json.dumps({**CONTRACT.model_dump(mode="json"), "threshold": 0.3}).encode()
    assert bring(make_files(**{"contract.json": other})).number == 2


def test_an_alias_cannot_be_wished_for_while_the_same_files_are_being_loaded(bring: Any) -> None:
    bring(make_files(), alias="staging")
    assert bring(make_files(), alias="staging").number == 1
    with pytest.raises(Conflict, match="being loaded already"):
        bring(make_files(), alias="production")


def test_what_a_worker_refused_can_be_imported_again(session: Session, dispatcher: Dispatcher, bring: Any) -> None:
    first = bring(make_files(), alias="production")
    claim = must_claim(session, jobs.get(session, first.workspace_id, first.id))
    assert blocks.fail(session, dispatcher, claim, CAUSE, attempts=1)
    load(session, dispatcher, first)
    refused = models.get_version(session, first.workspace_id, "nuclei", 1)
    assert refused.state is ModelState.FAILED
    assert models.get(session, first.workspace_id, "nuclei").aliases == {}
    assert bring(make_files()).number == 2


def test_an_import_that_was_cancelled_can_be_made_again(session: Session, bring: Any) -> None:
    first = bring(make_files())
    jobs.cancel(session, first.workspace_id, first.id)
    assert bring(make_files()).number == 2


def test_a_folder_is_read_with_what_belongs_to_a_model(tmp_path: Path) -> None:
    files = make_files(**{"localiser.onnx": b"localiser"})
    folder = write(tmp_path / "nuclei", {**files, "README.md": b"not ours"})
    package = ModelFiles.from_folder(folder)
    assert package.name == "nuclei"
    assert package.files == files
    assert ModelFiles.from_folder(folder, name="other").name == "other"


def test_a_model_in_int8_needs_the_graph_for_it() -> None:
    contract = {**CONTRACT.model_dump(mode="json"), "precision": "int8"}
    files = make_files(**{"contract.json": json.dumps(contract).encode()})
    with pytest.raises(Invalid, match=r"model-int8\.onnx missing"):
        ModelFiles.of("nuclei", files)
    assert "model-int8.onnx" in ModelFiles.of("nuclei", {**files, "model-int8.onnx": b"graph"}).hashes


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("body", [None, b""])
def test_a_missing_file_is_named(tmp_path: Path, name: str, body: bytes | None) -> None:
    files = {**make_files(), name: body}
    folder = write(tmp_path / "nuclei", {name: body for name, body in files.items() if body is not None})
    with pytest.raises(Invalid, match=rf"'nuclei': {name} missing or empty; fetch the folder again"):
        ModelFiles.from_folder(folder)


def test_a_model_that_warps_needs_its_localiser() -> None:
    warp = {"kind": "affine", "overview": 64, "channels": 6}
    files = make_files(**{"contract.json": json.dumps({**CONTRACT.model_dump(mode="json"), "warp": warp}).encode()})
    with pytest.raises(Invalid, match=r"localiser\.onnx missing"):
        ModelFiles.of("nuclei", files)
    assert "localiser.onnx" in ModelFiles.of("nuclei", {**files, "localiser.onnx": b"localiser"}).hashes


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model.onnx": b"version https://git-lfs"}, "model.onnx does not have the sha256"),
        ({"card.json": b'{"files": {"model.py": "0"}}'}, "model.py does not have the sha256"),
        ({"config.json": b"\xff"}, "config.json is no JSON"),
        ({"card.json": b"[]"}, "card.json holds no JSON object"),
        ({"contract.json": b"{}"}, r"contract.json is no tiling contract \(channels"),
    ],
)
def test_a_damaged_file_is_named(changes: dict[str, bytes], told: str) -> None:
    with pytest.raises(Invalid, match=f"'nuclei': {told}.*export the model anew"):
        ModelFiles.of("nuclei", {**make_files(), **changes})


def test_what_is_no_folder_or_no_name_is_refused(tmp_path: Path, bring: Any) -> None:
    with pytest.raises(Invalid, match="is no folder"):
        ModelFiles.from_folder(tmp_path / "nothing")
    with pytest.raises(Invalid, match="no name for a model"):
        ModelFiles.of("a b", make_files())
    with pytest.raises(Invalid, match="'3' is no alias"):
        bring(make_files(), alias="3")


def test_the_administrator_imports_a_folder(
    settings: Settings,
    session: Session,
    dispatcher: Dispatcher,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin, "_load_settings", lambda: settings)
    folder = write(tmp_path / "nuclei", make_files())
    order = ["model", "import", workspace.name, str(folder), "--name", "mine", "--alias", "production"]
    said = CliRunner().invoke(admin.main, order)
    assert said.exit_code == 0, said.output
    assert "mine@1 is registered" in said.output
    assert "mine@production will stand for it then" in said.output
    version = models.get_version(session, workspace.id, "mine", 1)
    load(session, dispatcher, version)
    again = CliRunner().invoke(admin.main, order)
    assert "mine@1 is ready (the same files were imported before)" in again.output
    (folder / "model.onnx").unlink()
    broken = CliRunner().invoke(admin.main, order)
    assert broken.exit_code == 1
    assert "model.onnx missing" in broken.output


def test_models_of_one_name_in_two_workspaces_are_two(
    session: Session, storage: Storage, dispatcher: Dispatcher, bring: Any
) -> None:
    other = workspaces.create(session, "other lab")
    package = ModelFiles.of("nuclei", make_files())
    assert import_model(session, storage, dispatcher, other.id, package).id != bring(make_files()).id
