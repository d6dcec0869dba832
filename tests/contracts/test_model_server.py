"""What every model server promises, and what Triton does when its engine dies or it is away itself."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deploy.local.stack import Stack
from services.trainer.export import Export
from services.trainer.networks import UNet
from services.worker.connection import NotLoaded
from services.worker.model_server import ModelServer, TritonServer
from shared.errors import Unavailable
from shared.imaging.probes import known_question
from shared.imaging.tiling import Pixels
from tests.toy_graphs import OVERVIEW
from tests.triton_insides import kill_engine


class ModelServerPromises:
    @pytest.fixture
    def server(self) -> ModelServer:
        raise AssertionError("each adapter gives its own")

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
        core = tile.shape[1] - 2 * small_network.halo
        assert answer.shape == (1, 1, core, core)
        assert answer.dtype == np.uint8
        np.testing.assert_array_equal(answer, server.infer(name, tile))

    def test_tiles_of_one_request_are_answered_like_each_alone(
        self, server: ModelServer, name: str, tile: Pixels, small_export: Export
    ) -> None:
        server.load(name, small_export.files)
        other = 255 - tile
        together = server.infer(name, np.concatenate([tile, other]))
        alone = np.concatenate([server.infer(name, tile), server.infer(name, other)])
        np.testing.assert_array_equal(together, alone)

    @pytest.mark.parametrize("views", [4, 8])
    def test_the_mean_over_views_does_not_care_how_a_tile_is_turned(
        self, server: ModelServer, name: str, tile: Pixels, small_export: Export, views: int
    ) -> None:
        server.load(name, small_export.files)
        answer, turned = (server.infer(name, each, views=views) for each in (tile, tile[:, ::-1]))
        steps = np.abs(turned[:, :, ::-1].astype(int) - answer)
        assert steps.max() <= 1  # sums in another order may round the other way
        assert (server.infer(name, tile) != answer).any()

    def test_a_model_says_what_computes_its_answers(
        self, server: ModelServer, name: str, tile: Pixels, small_export: Export
    ) -> None:
        server.load(name, small_export.files)
        assert server.describe_engine(name, tile).keys() == {"engine", "version", "precision", "device"}

    def test_a_tile_that_does_not_fit_is_an_error_and_no_harm(
        self, server: ModelServer, name: str, tile: Pixels, small_export: Export
    ) -> None:
        server.load(name, small_export.files)
        with pytest.raises(Unavailable):
            server.infer(name, tile[:, :-1])
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

    def test_a_model_that_was_unloaded_can_be_loaded_again_at_once(
        self, server: ModelServer, name: str, tile: Pixels, small_export: Export
    ) -> None:
        server.load(name, small_export.files)
        answer = server.infer(name, tile)
        server.unload(name)
        assert not server.is_loaded(name)
        with pytest.raises(NotLoaded):
            server.infer(name, tile)
        server.load(name, small_export.files)
        for _ in range(3):
            np.testing.assert_array_equal(server.infer(name, tile), answer)

    def test_a_model_that_nobody_loaded_may_be_unloaded(self, server: ModelServer, name: str) -> None:
        server.unload(name)
        assert not server.is_loaded(name)

    def test_a_model_with_a_localiser_answers_for_tiles_and_for_overviews(
        self, server: ModelServer, name: str, localising_export: Export
    ) -> None:
        overview, tile = np.full((OVERVIEW, OVERVIEW, 1), 7, np.uint8), known_question(64, 2, seed=1)[None]
        overview[: OVERVIEW // 2] = 2
        with pytest.raises(NotLoaded):
            server.localise(name, overview)
        server.load(name, localising_export.files)
        theta = server.localise(name, overview)
        assert theta.dtype == np.float32
        np.testing.assert_array_equal(theta, 4.5 * np.eye(3))
        np.testing.assert_array_equal(server.infer(name, tile)[:, 0], tile[..., 0])
        np.testing.assert_array_equal(server.localise(name, overview), theta)

    def test_a_model_without_a_localiser_says_so(
        self, server: ModelServer, name: str, tile: Pixels, small_export: Export
    ) -> None:
        server.load(name, small_export.files)
        with pytest.raises(Unavailable):
            server.localise(name, np.zeros((OVERVIEW, OVERVIEW, 3), np.uint8))
        assert server.infer(name, tile).any()


class TestTriton(ModelServerPromises):
    @pytest.fixture
    def server(self, url: str) -> Iterator[TritonServer]:
        server = TritonServer(url, predict_seconds=30, load_seconds=60)
        yield server
        server.close()

    def test_an_engine_that_died_is_reported_as_not_loaded(
        self, server: TritonServer, name: str, tile: Pixels, small_export: Export, servers: Stack
    ) -> None:
        server.load(name, small_export.files)
        kill_engine(servers, name)
        assert server.is_loaded(name), "Triton does not notice; if it learns to, the care taken here can go"
        with pytest.raises(NotLoaded):
            server.infer(name, tile)
        server.load(name, small_export.files)
        assert server.infer(name, tile).any()

    def test_a_short_absence_is_waited_for(
        self, name: str, tile: Pixels, small_export: Export, servers: Stack, url: str
    ) -> None:
        server = TritonServer(url, predict_seconds=30, load_seconds=60, retry_seconds=30)
        servers.process("triton").kill()
        with ThreadPoolExecutor(1) as pool:
            loaded = pool.submit(server.load, name, small_export.files)
            servers.process("triton").restart()
            loaded.result()
        assert server.infer(name, tile).any()
        server.close()

    def test_a_model_that_cannot_describe_its_engine_is_no_error(
        self, server: TritonServer, name: str, tile: Pixels, small_export: Export
    ) -> None:
        config = json.loads(small_export.files["config.json"])
        config["output"] = [output for output in config["output"] if output["name"] != "ENGINE"]
        server.load(name, {**small_export.files, "config.json": json.dumps(config).encode()})
        assert server.describe_engine(name, tile) == {}


def test_a_server_that_is_away_is_reported_as_unavailable(small_export: Export) -> None:
    server = TritonServer("127.0.0.1:1", predict_seconds=2, load_seconds=2, retry_seconds=0.2)
    with pytest.raises(Unavailable):
        server.infer("nobody", np.zeros((1, 64, 64, 3), dtype=np.uint8))
    with pytest.raises(Unavailable):
        server.load("nobody", small_export.files)
