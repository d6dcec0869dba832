"""The platform with a small model on it, and the SDK in front of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import tifffile
from overtile import Client
from sqlalchemy.orm import Session

from deploy.local.platform import WORKSPACE, Platform
from services.trainer.export import Export
from shared.database import make_engine, make_sessions
from shared.domain import models, workspaces
from shared.storage import Storage, model_key
from shared.tables import ModelVersion, Workspace
from shared.tables.models import ModelState

Register = Callable[[Platform, str], str]


@pytest.fixture(scope="session")
def register(small_export: Export) -> Register:
    """Put the small model on a platform under a name, as a training job would have; returns the name."""

    def add(platform: Platform, name: str) -> str:
        settings = platform.load_settings()
        engine = make_engine(settings)
        with make_sessions(engine)() as session:
            _register(session, Storage(settings), workspaces.find(session, WORKSPACE), name, small_export)
        engine.dispose()
        return name

    return add


@pytest.fixture(scope="session")
def model(platform: Platform, register: Register) -> str:
    return register(platform, "small")


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    with Client(platform.url, platform.api_key) as client:
        yield client


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Path]:
    """Draw an image of noise and blobs, as a tiled TIFF."""
    folder = tmp_path_factory.mktemp("pictures")

    def draw(height: int, width: int) -> Path:
        rows, columns = np.mgrid[:height, :width]
        blobs = 127 + 60 * np.sin(rows / 9.0) * np.cos(columns / 13.0)
        noise = np.random.default_rng(0).integers(-60, 60, (height, width, 3), dtype=np.int16)
        pixels = (blobs[..., None].astype(np.int16) + noise).astype(np.uint8)
        path = folder / f"drawn-{height}x{width}.tif"
        tifffile.imwrite(path, pixels, tile=(256, 256))
        return path

    return draw


def _register(session: Session, storage: Storage, workspace: Workspace, name: str, export: Export) -> None:
    model_id, version_id = models.ensure(session, workspace.id, name), uuid4()
    stored = {file: storage.put(model_key(model_id, version_id, file), body) for file, body in export.files.items()}
    with session.begin():
        session.add(
            ModelVersion(
                id=version_id,
                workspace_id=workspace.id,
                model_id=model_id,
                number=1,
                state=ModelState.READY,
                digest=export.digest,
                files={file: done.sha256 for file, done in stored.items()},
                contract=export.contract.model_dump(mode="json"),
                card={},
            )
        )
