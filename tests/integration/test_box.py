"""The models in the box, brought to a platform on the real servers."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from deploy.local.box import import_boxed
from deploy.local.platform import WORKSPACE
from shared.domain import jobs, models, workspaces
from shared.errors import Invalid
from shared.settings import Settings
from shared.storage import Storage, model_key
from shared.tables import Workspace
from shared.tables.models import ModelState
from tests.integration.test_imports import make_files, write
from tests.rows import make_dispatcher, work_off


class Servers:
    """What the box asks of a platform: where its servers are."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def load_settings(self) -> Settings:
        return self._settings


@pytest.fixture
def platform(settings: Settings) -> Any:
    return Servers(settings)


@pytest.fixture
def workspace(session: Session) -> Workspace:
    return workspaces.create(session, WORKSPACE)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """Two models, and what is none."""
    write(tmp_path / "starter", make_files(b"one"))
    write(tmp_path / "expert", make_files(b"two"))
    write(tmp_path / "notes", {"README.md": b"not a model"})
    (tmp_path / "README.md").write_text("what the models are")
    return tmp_path


def test_every_model_in_the_box_can_be_used_once_a_worker_has_loaded_it(
    session: Session, storage: Storage, workspace: Workspace, platform: Any, box: Path
) -> None:
    versions = import_boxed(platform, models=box)
    for version, name in zip(versions, ("expert", "starter"), strict=True):
        body = storage.get(model_key(version.model_id, version.id, "model.onnx"))
        assert body == (box / name / "model.onnx").read_bytes()
        list(work_off(session, make_dispatcher(), jobs.get(session, workspace.id, version.id)))
        assert models.get_version(session, workspace.id, name, 1).state is ModelState.READY


def test_the_same_box_again_changes_nothing(session: Session, workspace: Workspace, platform: Any, box: Path) -> None:
    first, again = (import_boxed(platform, models=box) for _ in range(2))
    assert [version.id for version in first] == [version.id for version in again]
    write(box / "novice", make_files(b"three"))
    third = import_boxed(platform, models=box)
    assert {version.id for version in first} < {version.id for version in third}


def test_an_empty_box_or_none_brings_nothing(workspace: Workspace, platform: Any, tmp_path: Path) -> None:
    assert import_boxed(platform, models=tmp_path) == []
    assert import_boxed(platform, models=tmp_path / "nothing") == []


def test_of_a_box_with_a_damaged_model_nothing_is_brought(
    session: Session, workspace: Workspace, platform: Any, box: Path
) -> None:
    (box / "starter" / "model.onnx").write_bytes(b"version https://git-lfs")
    with pytest.raises(Invalid, match=r"'starter': model\.onnx does not have the sha256"):
        import_boxed(platform, models=box)
    assert models.list_page(session, workspace.id, cursor=None, limit=10)[0] == []
