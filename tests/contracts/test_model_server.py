"""What every model server promises, and what the predictor makes of its faults."""

import time
from collections.abc import Iterator
from uuid import uuid4

import numpy as np
import psutil
import pytest

from deploy.local.platform import Platform
from services.trainer.export import Export
from services.trainer.networks import UNet
from services.worker.model_server import ModelServer, NotLoaded, TritonServer
from services.worker.predictor import Predictor, ServedModel
from shared.errors import Rejected, Unavailable
from shared.imaging.tiling import Pixels
from shared.storage import Storage, model_key


class ModelServerPromises:
    @pytest.fixture
    def server(self) -> ModelServer:
        raise AssertionError("each adapter gives its own")

    @pytest.fixture
    def name(self) -> str:
        return f"test-{uuid4().hex}"

    @pytest.fixture
    def tile(self, small_export: Export) -> Pixels:
        side = small_export.contract.known_answer.side
        return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)

    def test_a_model_it_was_not_given_is_not_loaded(self, server: ModelServer, name: str, tile: Pixels) -> None:
        assert not server.is_loaded(name)
        with pytest.raises(NotLoaded):
            server.infer(name, tile)

    def test_a_loaded_model_answers_with_the_cores_probabilities(
        self, server: ModelServer, name: str, tile: Pixels, small_export: Export, small_network: UNet
    ) -> None:
        server.load(name, small_export.files)
        assert server.is_loaded(name)
        answer = server.infer(name, tile)
        core = tile.shape[0] - 2 * small_network.halo
        assert answer.shape == (1, core, core)
        assert answer.dtype == np.uint8
        np.testing.assert_array_equal(answer, server.infer(name, tile))

    def test_a_tile_that_does_not_fit_is_an_error_and_no_harm(
        self, server: ModelServer, name: str, tile: Pixels, small_export: Export
    ) -> None:
        server.load(name, small_export.files)
        with pytest.raises(Unavailable):
            server.infer(name, tile[:-1])
        assert server.infer(name, tile).any()

    def test_a_second_load_replaces_the_first(
        self, server: ModelServer, name: str, tile: Pixels, small_export: Export
    ) -> None:
        server.load(name, small_export.files)
        broken = {**small_export.files, "model.onnx": b"no graph"}
        with pytest.raises(Unavailable):
            server.load(name, broken)
        server.load(name, small_export.files)
        assert server.infer(name, tile).any()


class TestTriton(ModelServerPromises):
    @pytest.fixture
    def server(self, platform: Platform) -> Iterator[TritonServer]:
        url = platform.environment()["OVERTILE_TRITON_URL"]
        server = TritonServer(url, predict_seconds=30, load_seconds=60)
        yield server
        server.close()

    def test_an_engine_that_died_is_reported_as_not_loaded(
        self, server: TritonServer, name: str, tile: Pixels, small_export: Export, platform: Platform
    ) -> None:
        server.load(name, small_export.files)
        kill_engine(platform, name)
        assert server.is_loaded(name), "Triton does not notice; if it learns to, the care taken here can go"
        with pytest.raises(NotLoaded):
            server.infer(name, tile)
        server.load(name, small_export.files)
        assert server.infer(name, tile).any()


def test_a_server_that_is_away_is_reported_as_unavailable(small_export: Export) -> None:
    server = TritonServer("127.0.0.1:1", predict_seconds=2, load_seconds=2)
    with pytest.raises(Unavailable):
        server.infer("nobody", np.zeros((64, 64, 3), dtype=np.uint8))
    with pytest.raises(Unavailable):
        server.load("nobody", small_export.files)


@pytest.fixture
def stored(platform: Platform, small_export: Export) -> ServedModel:
    storage = Storage(platform.load_settings())
    model_id, version_id = uuid4(), uuid4()
    stored = {
        name: storage.put(model_key(model_id, version_id, name), body).sha256
        for name, body in small_export.files.items()
    }
    return ServedModel(model_id, version_id, stored, small_export.contract)


@pytest.fixture
def predictor(platform: Platform) -> Iterator[Predictor]:
    server = TritonServer(platform.environment()["OVERTILE_TRITON_URL"], predict_seconds=30, load_seconds=60)
    predictor = Predictor(server, Storage(platform.load_settings()), in_flight=2)
    yield predictor
    predictor.close()


def test_the_predictor_loads_what_is_missing_and_mends_what_died(
    platform: Platform, predictor: Predictor, stored: ServedModel
) -> None:
    side = stored.contract.known_answer.side
    tiles = list(np.random.default_rng(0).integers(0, 256, (6, side, side, 3), dtype=np.uint8))
    first = [answer for _, answer in predictor.predict_each(stored, range(6), lambda i: tiles[i])]
    kill_engine(platform, stored.server_name)
    second = list(predictor.predict_each(stored, range(6), lambda i: tiles[i]))
    assert [number for number, _ in second] == list(range(6))
    for before, (_, after) in zip(first, second, strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_model_that_answers_wrongly_is_refused(predictor: Predictor, stored: ServedModel) -> None:
    known = stored.contract.known_answer
    wrong = [[[255 - value for value in row] for row in plane] for plane in known.answer]
    contract = stored.contract.model_copy(update={"known_answer": known.model_copy(update={"answer": wrong})})
    model = ServedModel(stored.model_id, stored.version_id, stored.files, contract)
    for _ in range(2):  # loaded, and still refused
        with pytest.raises(Rejected, match="off its known answer"):
            predictor.ensure_loaded(model)


def kill_engine(platform: Platform, name: str) -> None:
    """SIGKILL the stub process that runs the model's Python backend, and that alone."""
    triton = psutil.Process(platform.process("triton").pid)
    living = [child for child in triton.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    stubs = [child for child in living if any(name in part for part in child.cmdline())]
    assert stubs, f"nothing runs {name}"
    deadline = time.monotonic() + 10
    for stub in stubs:
        stub.kill()
        while stub.is_running() and stub.status() != psutil.STATUS_ZOMBIE:  # Triton does not collect them
            assert time.monotonic() < deadline
