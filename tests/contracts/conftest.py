"""Servers that tests may break, and models for them."""

import hashlib
import json
from collections.abc import Iterator
from uuid import uuid4

import numpy as np
import pytest

from deploy.local.stack import Stack, erase
from services.trainer.export import Export
from services.worker.model_server import TritonServer
from shared.imaging.probes import known_question
from shared.imaging.tiling import Pixels
from shared.schemas.contracts import Activation, Exactness, KnownAnswer, TilingContract, WarpContract
from tests.toy_graphs import OVERVIEW, write_localiser, write_segmenter


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Servers to break."""
    data = tmp_path_factory.mktemp("servers")
    with Stack(data, durable=False) as running:
        yield running
    erase(data)


@pytest.fixture(scope="session")
def url(servers: Stack) -> str:
    return servers.environment()["OVERTILE_TRITON_URL"]


@pytest.fixture
def server(url: str) -> Iterator[TritonServer]:
    server = TritonServer(url, predict_seconds=30, load_seconds=60)
    yield server
    server.close()


@pytest.fixture
def name() -> str:
    """A model's, that nobody else uses."""
    return f"test-{uuid4().hex}"


@pytest.fixture
def tile(small_export: Export) -> Pixels:
    """One tile, (1, H, W, 3), of noise."""
    side = small_export.contract.known_answer.side
    return np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def localising_export(small_export: Export) -> Export:
    """A model that takes a grey image and its warped self, without a network in it."""
    graph = write_segmenter()
    config = json.loads(small_export.files["config.json"])
    config["input"] = [
        {"name": "IMAGE", "data_type": "TYPE_UINT8", "dims": [1, -1, -1, 2], "optional": True},
        {"name": "OVERVIEW", "data_type": "TYPE_UINT8", "dims": [1, OVERVIEW, OVERVIEW, 1], "optional": True},
    ]
    config["output"].append({"name": "THETA", "data_type": "TYPE_FP32", "dims": [1, 3, 3]})
    contract = TilingContract(
        channels=1,
        classes=["background", "bright"],
        activation=Activation.SIGMOID,
        halo=0,
        grid=1,
        cores=[64],
        exactness=Exactness.EXACT,
        normalisation="none",
        warp=WarpContract(kind="affine", overview=OVERVIEW, channels=2),
        known_answer=KnownAnswer(
            side=64, seed=0, step=16, answer=[known_question(64, 2, 0)[::16, ::16, 0].tolist()], tolerance=0
        ),
    )
    files = {
        "model.onnx": graph,
        "localiser.onnx": write_localiser(),
        "model.py": small_export.files["model.py"],
        "config.json": json.dumps(config).encode(),
    }
    return Export(files, contract, hashlib.sha256(graph).hexdigest())
