"""The platform with a small model on it, and the SDK in front of it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import tifffile
from overtile import Client

from deploy.local.platform import WORKSPACE, Platform
from services.trainer.export import Export
from shared.database import make_engine, make_sessions
from shared.domain import workspaces
from shared.domain.dispatch import Dispatcher
from shared.domain.imports import import_model
from shared.domain.model_files import ModelFiles
from shared.storage import Storage

Register = Callable[[Platform, str], str]


def import_files(platform: Platform, name: str, files: Mapping[str, bytes]) -> str:
    """Import the files as a model; returns the job that loads it."""
    settings = platform.load_settings()
    engine = make_engine(settings)
    with make_sessions(engine)() as session:
        workspace, package = workspaces.find(session, WORKSPACE), ModelFiles.of(name, files)
        version = import_model(session, Storage(settings), Dispatcher.from_settings(settings), workspace.id, package)
    engine.dispose()
    return str(version.job_id)


@pytest.fixture(scope="session")
def register(small_export: Export) -> Register:
    """Import the small model into a platform under a name, and wait until it is ready; returns the name."""

    def add(platform: Platform, name: str) -> str:
        job = import_files(platform, name, small_export.files)
        with Client(platform.url, platform.api_key) as client:
            client.jobs.wait(job, progress=False, timeout=120)
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
