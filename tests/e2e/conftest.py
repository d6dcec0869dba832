"""The platform with a small model on it, and the SDK in front of it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import tifffile
from overtile import Client

from deploy.local.platform import WORKSPACE, Platform
from services.trainer.export import Export, export_model
from shared.database import make_engine, make_sessions
from shared.domain import workspaces
from shared.domain.dispatch import Dispatcher
from shared.domain.imports import import_model
from shared.domain.model_files import ModelFiles
from shared.storage import Storage
from tests.colour_networks import make_colour_network

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


def bring(platform: Platform, name: str, files: Mapping[str, bytes]) -> None:
    """Import a model into the platform and wait until it is ready."""
    job = import_files(platform, name, files)
    with Client(platform.url, platform.api_key) as client:
        assert client.jobs.wait(job, progress=False, timeout=120).state == "succeeded"


@pytest.fixture(scope="session")
def register(small_export: Export) -> Register:
    """Import the small model into a platform under a name, and wait until it is ready; returns the name."""

    def add(platform: Platform, name: str) -> str:
        bring(platform, name, small_export.files)
        return name

    return add


@pytest.fixture(scope="session")
def model(platform: Platform, register: Register) -> str:
    return register(platform, "small")


@pytest.fixture(scope="session")
def red_files() -> Mapping[str, bytes]:
    """A model that tells what is red."""
    classes = ["background", "red"]
    return export_model(make_colour_network(classes), classes=classes, card={}).files


@pytest.fixture(scope="session")
def red(platform: Platform, red_files: Mapping[str, bytes]) -> str:
    """The same, ready to be used."""
    bring(platform, "red", red_files)
    return "red"


@pytest.fixture(scope="session")
def colours(platform: Platform) -> str:
    """A model that tells red from green."""
    classes = ["background", "red", "green"]
    bring(platform, "colours", export_model(make_colour_network(classes), classes=classes, card={}).files)
    return "colours"


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
