"""The models that come in the box: those of the folder `models/`, brought to the platform of this machine."""

from __future__ import annotations

from pathlib import Path

from deploy.local.platform import WORKSPACE, Platform
from shared.database import make_engine, make_sessions
from shared.domain import workspaces
from shared.domain.dispatch import Dispatcher
from shared.domain.imports import import_model
from shared.domain.model_files import ModelFiles
from shared.storage import Storage
from shared.tables import ModelVersion

MODELS = Path(__file__).resolve().parents[2] / "models"


def import_boxed(platform: Platform, *, models: Path = MODELS) -> list[ModelVersion]:
    """Import every model of the folder; the same files again change nothing.

    A worker makes the versions ready; each one's job says when.
    """
    settings = platform.load_settings()
    engine = make_engine(settings)
    packages = [ModelFiles.from_folder(path.parent) for path in sorted(models.glob("*/contract.json"))]
    try:
        with make_sessions(engine)() as session:
            workspace = workspaces.find(session, WORKSPACE)
            storage, dispatcher = Storage(settings), Dispatcher.from_settings(settings)
            return [import_model(session, storage, dispatcher, workspace.id, package) for package in packages]
    finally:
        engine.dispose()
