"""The real servers, started once by the test session and stopped with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import hypothesis
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from deploy.local.platform import Platform
from deploy.local.stack import Stack, erase
from shared import migrations
from shared.database import Sessions, make_engine, make_sessions
from shared.domain import workspaces
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import Workspace

if TYPE_CHECKING:
    from services.trainer.export import Export
    from services.trainer.networks import UNet

# A loaded machine is no fault of the code: examples may take as long as they take.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

# Faults are found within seconds, so that tests of them need not wait for what a cluster would.
IMPATIENT = {
    "OVERTILE_LEASE_SECONDS": "4",
    "OVERTILE_RING_PATIENCE_SECONDS": "2",
    "OVERTILE_SWEEP_SECONDS": "0.5",
    "OVERTILE_DRAIN_SECONDS": "5",
}


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Servers, API, worker, trainer and sweeper. Tests that break things start one of their own."""
    data = tmp_path_factory.mktemp("platform")
    with Platform(data, durable=False, settings=IMPATIENT) as running:
        yield running
    erase(data)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The servers alone, without Triton."""
    data = tmp_path_factory.mktemp("stack")
    with Stack(data, durable=False, servers=("postgres", "valkey", "s3")) as running:
        yield running
    erase(data)


@pytest.fixture(scope="session")
def server_settings(stack: Stack) -> Settings:
    names = {name.removeprefix("OVERTILE_").lower(): value for name, value in stack.environment().items()}
    return Settings.model_validate({name: names[name] for name in Settings.model_fields if name in names})


@pytest.fixture(scope="session")
def template(server_settings: Settings) -> str:
    """Name of a database with all tables, made by the migrations, to copy others from."""
    name = "template_" + uuid4().hex
    engine = make_engine(_on_database(server_settings, name))
    migrations.upgrade(engine)
    engine.dispose()
    return name


@pytest.fixture
def settings(server_settings: Settings, template: str) -> Iterator[Settings]:
    """A database of the test's own, migrated, on the shared servers."""
    name = "test_" + uuid4().hex
    yield _on_database(server_settings, name, template=template)
    _administer(server_settings, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = make_engine(settings)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> Sessions:
    return make_sessions(engine)


@pytest.fixture
def session(sessions: Sessions) -> Iterator[Session]:
    with sessions() as session:
        yield session


@pytest.fixture
def workspace(session: Session) -> Workspace:
    return workspaces.create(session, "lab")


@pytest.fixture(scope="session")
def storage(server_settings: Settings) -> Storage:
    return Storage(server_settings)


@pytest.fixture(scope="session")
def ihc() -> Path:
    """Real microscopy (512 × 512 px, RGB) that ships inside scikit-image."""
    import skimage.data

    return Path(skimage.data.__file__).parent / "ihc.png"


@pytest.fixture(scope="session")
def small_network(ihc: Path) -> UNet:
    """Three levels, random weights, and statistics of a real image: its answers differ from pixel to pixel."""
    import torch  # here, so that tests without it start at once

    from services.trainer.networks import UNet

    torch.manual_seed(0)
    network = UNet([8, 16, 32], channels=3, classes=1)
    image = torch.from_numpy(np.array(Image.open(ihc))).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        for _ in range(30):
            network(image)
        logits = network.eval()(image)
        scale = 2 / logits.std()
        weight, bias = network.head.parameters()
        weight.mul_(scale)
        bias.sub_(logits.mean()).mul_(scale)
    return network


@pytest.fixture(scope="session")
def small_export(small_network: UNet) -> Export:
    from services.trainer.export import export_model

    return export_model(small_network, card={})


def _on_database(settings: Settings, name: str, *, template: str = "template1") -> Settings:
    _administer(settings, f"CREATE DATABASE {name} TEMPLATE {template}")
    url = make_url(settings.database_url.get_secret_value()).set(database=name)
    return Settings.model_validate({**settings.model_dump(), "database_url": url.render_as_string(hide_password=False)})


def _administer(settings: Settings, statement: str) -> None:
    engine = create_engine(settings.database_url.get_secret_value(), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """What tests compute with torch is so small that more threads gain nothing, and lose much on a busy machine."""
    import torch  # half of the tests do without

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
