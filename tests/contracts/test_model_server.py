"""What every model server promises, and what the predictor makes of its faults."""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from deploy.local.platform import Platform
from services.trainer.export import Export
from services.trainer.networks import UNet
from services.worker.model_server import ModelServer, NotLoaded, TritonServer
from services.worker.predictor import Predictor, ServedModel
from shared.errors import Rejected, Unavailable
from shared.imaging.probes import known_question
from shared.imaging.tiling import Pixels
from shared.schemas.contracts import Activation, Exactness, KnownAnswer, TilingContract, WarpContract
from shared.storage import Storage, model_key

OVERVIEW = 32  # px


def write_graph(nodes: list[onnx.NodeProto], given: onnx.ValueInfoProto, made: onnx.ValueInfoProto) -> bytes:
    constants = {"starts": [0], "ends": [1], "channel": [3], "all": [0, 1, 2, 3], "square": [1, 1, 1]}
    initial = [helper.make_tensor(name, TensorProto.INT64, [len(v)], v) for name, v in constants.items()]
    initial.append(helper.make_tensor("identity", TensorProto.FLOAT, [1, 3, 3], np.eye(3).ravel()))
    initial.append(helper.make_tensor("nothing", TensorProto.FLOAT, [1], [0]))
    initial.append(helper.make_tensor("one", TensorProto.FLOAT, [1], [1]))
    graph = helper.make_graph(nodes, "toy", [given], [made], initial)
    model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    return model


def write_segmenter() -> bytes:
    """Its answer is the first channel of a tile of two."""
    nodes = [
        helper.make_node("Slice", ["IMAGE", "starts", "ends", "channel"], ["first"]),
        helper.make_node("Transpose", ["first"], ["PROBABILITY"], perm=[0, 3, 1, 2]),
    ]
    given = helper.make_tensor_value_info("IMAGE", TensorProto.UINT8, [1, "height", "width", 2])
    return write_graph(
        nodes, given, helper.make_tensor_value_info("PROBABILITY", TensorProto.UINT8, [1, 1, "height", "width"])
    )


def write_localiser(*, broken: bool = False) -> bytes:
    """It enlarges by the overview's mean; a broken one divides by zero."""
    nodes = [
        helper.make_node("Cast", ["OVERVIEW"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real", "all"], ["mean"], keepdims=1),
        helper.make_node("Reshape", ["mean", "square"], ["scale"]),
        helper.make_node("Mul", ["scale", "identity"], ["enlarged"]),
        helper.make_node("Div", ["enlarged", "nothing" if broken else "one"], ["THETA"]),
    ]
    given = helper.make_tensor_value_info("OVERVIEW", TensorProto.UINT8, [1, OVERVIEW, OVERVIEW, 1])
    return write_graph(nodes, given, helper.make_tensor_value_info("THETA", TensorProto.FLOAT, [1, 3, 3]))


@pytest.fixture(scope="module")
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

    def test_a_model_with_a_localiser_answers_for_tiles_and_for_overviews(
        self, server: ModelServer, name: str, localising_export: Export
    ) -> None:
        overview, tile = np.full((OVERVIEW, OVERVIEW, 1), 7, np.uint8), known_question(64, 2, seed=1)
        overview[: OVERVIEW // 2] = 2
        with pytest.raises(NotLoaded):
            server.localise(name, overview)
        server.load(name, localising_export.files)
        theta = server.localise(name, overview)
        assert theta.dtype == np.float32
        np.testing.assert_array_equal(theta, 4.5 * np.eye(3))
        np.testing.assert_array_equal(server.infer(name, tile)[0], tile[:, :, 0])
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


def store(platform: Platform, export: Export) -> ServedModel:
    storage = Storage(platform.load_settings())
    model_id, version_id = uuid4(), uuid4()
    stored = {
        name: storage.put(model_key(model_id, version_id, name), body).sha256 for name, body in export.files.items()
    }
    return ServedModel(model_id, version_id, stored, export.contract)


@pytest.fixture
def stored(platform: Platform, small_export: Export) -> ServedModel:
    return store(platform, small_export)


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


def test_the_predictor_localises_with_what_was_missing_and_what_died(
    platform: Platform, predictor: Predictor, localising_export: Export
) -> None:
    model, overview = store(platform, localising_export), np.full((OVERVIEW, OVERVIEW, 1), 3, np.uint8)
    np.testing.assert_array_equal(predictor.localise(model, overview), 3 * np.eye(3))
    kill_engine(platform, model.server_name)
    np.testing.assert_array_equal(predictor.localise(model, overview), 3 * np.eye(3))


def test_a_localiser_that_answers_without_numbers_is_refused(
    platform: Platform, predictor: Predictor, localising_export: Export
) -> None:
    files = {**localising_export.files, "localiser.onnx": write_localiser(broken=True)}
    model = store(platform, replace(localising_export, files=files))
    for _ in range(2):  # loaded, and still refused
        with pytest.raises(Rejected, match="no transform"):
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
