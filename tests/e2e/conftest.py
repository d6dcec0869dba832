"""The platform with a small model on it, and the SDK in front of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import tifffile
import torch
from overtile import Client
from PIL import Image
from sqlalchemy.orm import Session

from deploy.local.platform import WORKSPACE, Platform
from services.trainer.export import Export, export_model
from services.trainer.networks import UNet
from shared.database import make_engine, make_sessions
from shared.domain import models, workspaces
from shared.storage import Storage, model_key
from shared.tables import ModelVersion, Workspace
from shared.tables.models import ModelState

Register = Callable[[Platform, str], str]


@pytest.fixture(scope="session")
def small_network(ihc: Path) -> UNet:
    """Three levels, random weights, and statistics of a real image: its answers differ from pixel to pixel."""
    torch.manual_seed(0)
    network = UNet([8, 16, 32], channels=3, classes=1)
    image = torch.from_numpy(np.array(Image.open(ihc))).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        for _ in range(30):
            network(image)
        logits = network.eval()(image)
        network.head.weight.mul_(2 / logits.std())
        network.head.bias.sub_(logits.mean()).mul_(2 / logits.std())
    return network


@pytest.fixture(scope="session")
def small_export(small_network: UNet) -> Export:
    return export_model(small_network, card={})


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


