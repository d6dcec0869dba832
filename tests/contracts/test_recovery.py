"""What the predictor makes of a model server's faults: engines and servers that die, models that answer wrongly."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest

from deploy.local.stack import Stack
from services.trainer.export import Export
from services.worker.model_server import TritonServer
from services.worker.predictor import Predictor, ServedModel
from shared.errors import Rejected
from shared.imaging.tiling import Pixels
from shared.settings import Settings
from shared.storage import Storage, model_key
from tests.toy_graphs import BACKEND_BEFORE_BATCHES, OVERVIEW, write_localiser
from tests.triton_insides import kill_engine, regions

RECOVERED_S = 30  # a generous "within seconds"


def open_storage(servers: Stack) -> Storage:
    names = {name.removeprefix("OVERTILE_").lower(): value for name, value in servers.environment().items()}
    return Storage(Settings.model_validate({name: names[name] for name in Settings.model_fields if name in names}))


def store(servers: Stack, export: Export) -> ServedModel:
    storage = open_storage(servers)
    model_id, version_id = uuid4(), uuid4()
    stored = {
        name: storage.put(model_key(model_id, version_id, name), body).sha256 for name, body in export.files.items()
    }
    return ServedModel(model_id, version_id, stored, export.contract)


@pytest.fixture
def stored(servers: Stack, small_export: Export) -> ServedModel:
    return store(servers, small_export)


def make_predictor(servers: Stack) -> Predictor:
    url = servers.environment()["OVERTILE_TRITON_URL"]
    server = TritonServer(url, predict_seconds=30, load_seconds=60, retry_seconds=RECOVERED_S)
    return Predictor(server, open_storage(servers), in_flight=2)


@pytest.fixture
def predictor(servers: Stack) -> Iterator[Predictor]:
    predictor = make_predictor(servers)
    yield predictor
    predictor.close()


class Series:
    """A few different tiles for a model, to be predicted one after the other."""

    def __init__(self, model: ServedModel) -> None:
        side = model.contract.known_answer.side
        self.model = model
        self.tiles = np.random.default_rng(0).integers(0, 256, (6, 1, side, side, 3), dtype=np.uint8)

    def predict(self, predictor: Predictor) -> Iterator[tuple[int, Pixels]]:
        return predictor.predict_each(self.model, range(6), lambda _: self.tiles[0].shape, self.fill)

    def fill(self, number: int, out: Pixels) -> None:
        out[:] = self.tiles[number]


@pytest.fixture
def series(stored: ServedModel) -> Series:
    return Series(stored)


def test_the_predictor_loads_what_is_missing(predictor: Predictor, series: Series) -> None:
    answers = list(series.predict(predictor))
    assert [number for number, _ in answers] == list(range(6))
    for number, answer in answers:
        np.testing.assert_array_equal(answer, predictor.predict(series.model, series.tiles[number]))


def test_a_version_from_before_batches_is_asked_for_a_tile_at_a_time(
    servers: Stack, predictor: Predictor, localising_export: Export
) -> None:
    config = {
        "backend": "python",
        "max_batch_size": 0,
        "input": [{"name": "IMAGE", "data_type": "TYPE_UINT8", "dims": [1, -1, -1, 2]}],
        "output": [{"name": "PROBABILITY", "data_type": "TYPE_UINT8", "dims": [1, 1, -1, -1]}],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
    }
    contract = localising_export.contract.model_copy(update={"warp": None, "channels": 2})
    files = {"config.json": json.dumps(config).encode(), "model.py": BACKEND_BEFORE_BATCHES}
    series = Series(store(servers, replace(localising_export, files=files, contract=contract)))
    series.tiles = series.tiles[..., :2]
    for number, answer in series.predict(predictor):
        np.testing.assert_array_equal(answer[:, 0], series.tiles[number, ..., 0])
    assert predictor.describe_engine(series.model) == {}


def test_an_engine_that_dies_amid_tiles_is_back_within_seconds(
    servers: Stack, predictor: Predictor, series: Series
) -> None:
    undisturbed = dict(series.predict(predictor))
    disturbed, begun = {}, time.monotonic()
    for number, answer in series.predict(predictor):
        if number == 1:
            kill_engine(servers, series.model.server_name)
        disturbed[number] = answer
    assert time.monotonic() - begun < RECOVERED_S
    assert_same(disturbed, undisturbed)


def test_a_server_that_dies_amid_tiles_is_used_again_within_seconds(
    servers: Stack, predictor: Predictor, series: Series
) -> None:
    undisturbed = dict(series.predict(predictor))
    disturbed, begun = {}, time.monotonic()
    for number, answer in series.predict(predictor):
        if number == 1:
            servers.process("triton").kill()
            servers.process("triton").restart()
        disturbed[number] = answer
    assert time.monotonic() - begun < RECOVERED_S
    assert_same(disturbed, undisturbed)


def test_two_workers_that_find_an_engine_dead_at_once_both_get_their_answers(servers: Stack, series: Series) -> None:
    workers = [make_predictor(servers), make_predictor(servers)]
    undisturbed = dict(series.predict(workers[0]))
    kill_engine(servers, series.model.server_name)
    with ThreadPoolExecutor(2) as pool:
        for answers in pool.map(lambda worker: dict(series.predict(worker)), workers):
            assert_same(answers, undisturbed)
    for worker in workers:
        worker.close()


def test_a_predictor_gives_its_shared_memory_back(servers: Stack, url: str, series: Series) -> None:
    predictor, before = make_predictor(servers), regions(url)
    next(series.predict(predictor))  # the rest is not wanted
    predictor.close()
    assert regions(url) <= before


def test_a_model_that_answers_wrongly_is_refused(predictor: Predictor, stored: ServedModel) -> None:
    known = stored.contract.known_answer
    wrong = [[[255 - value for value in row] for row in plane] for plane in known.answer]
    contract = stored.contract.model_copy(update={"known_answer": known.model_copy(update={"answer": wrong})})
    model = ServedModel(stored.model_id, stored.version_id, stored.files, contract)
    for _ in range(2):  # loaded, and still refused
        with pytest.raises(Rejected, match="off its known answer"):
            predictor.ensure_loaded(model)


def test_the_predictor_localises_with_what_was_missing_and_what_died(
    servers: Stack, predictor: Predictor, localising_export: Export
) -> None:
    model, overview = store(servers, localising_export), np.full((OVERVIEW, OVERVIEW, 1), 3, np.uint8)
    np.testing.assert_array_equal(predictor.localise(model, overview), 3 * np.eye(3))
    kill_engine(servers, model.server_name)
    np.testing.assert_array_equal(predictor.localise(model, overview), 3 * np.eye(3))


def test_a_localiser_that_answers_without_numbers_is_refused(
    servers: Stack, predictor: Predictor, localising_export: Export
) -> None:
    files = {**localising_export.files, "localiser.onnx": write_localiser(broken=True)}
    model = store(servers, replace(localising_export, files=files))
    for _ in range(2):  # loaded, and still refused
        with pytest.raises(Rejected, match="no transform"):
            predictor.ensure_loaded(model)


def assert_same(found: dict[int, Pixels], expected: dict[int, Pixels]) -> None:
    assert found.keys() == expected.keys()
    for number, answer in expected.items():
        np.testing.assert_array_equal(found[number], answer)
