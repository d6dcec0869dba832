"""The predictor in front of a server that answers at once: order, bounds, and what it gives back."""

import gc
import itertools
import threading
import weakref
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import numpy as np
import pytest

from services.worker.connection import NotLoaded
from services.worker.predictor import Predictor, ServedModel
from services.worker.slots import Shape, Slot
from shared.errors import Unavailable
from shared.imaging.tiling import Pixels
from shared.imaging.warping import Transform
from shared.schemas.contracts import Activation, Exactness, KnownAnswer, TilingContract
from shared.storage import Storage

HALO, SIDE = 4, 24  # px
CORE = SIDE - 2 * HALO
SHAPE = (2, SIDE, SIDE, 1)


class Echo:
    """Answers with the middle of the tiles, and counts."""

    def __init__(self) -> None:
        self.loads = self.known_questions = self.lent = self.at_once = self.most_at_once = 0
        self.held: list[str] = []  # names, in the order of their loading
        self.unloading_error: Exception | None = None
        self.views: list[int] = []
        self.errors: list[Exception] = []  # raised one by one, instead of answers
        self.gate = threading.Event()  # no slot is answered before it opens
        self.gate.set()
        self.patience = 10.0  # s, before a closed gate opens by itself
        self._lock = threading.Lock()

    def is_loaded(self, name: str) -> bool:
        return name in self.held

    def load(self, name: str, files: Mapping[str, bytes]) -> None:
        self.loads += 1
        self.held.append(name)

    def unload(self, name: str) -> None:
        if self.unloading_error is not None:
            raise self.unloading_error
        self.held.remove(name)

    def infer(self, name: str, tiles: Pixels, *, views: int = 1) -> Pixels:
        self.known_questions += 1
        return self._middle(tiles)

    def infer_slot(self, name: str, slot: Slot, *, views: int = 1) -> Pixels:
        with self._lock:
            self.views.append(views)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.gate.wait(self.patience)
        with self._lock:
            self.at_once -= 1
            if self.errors:
                raise self.errors.pop()
        return self._middle(slot.tiles).copy()

    def lend_slot(self, tiles: Shape, answer: Shape) -> Slot:
        assert answer == (tiles[0], 1, tiles[1] - 2 * HALO, tiles[2] - 2 * HALO)
        with self._lock:
            self.lent += 1
        return Slot(np.zeros(tiles, np.uint8))

    def take_back(self, slot: Slot) -> None:
        with self._lock:
            self.lent -= 1

    def localise(self, name: str, overview: Pixels) -> Transform:
        return np.eye(3, dtype=np.float32)

    def describe_engine(self, name: str, tiles: Pixels) -> dict[str, str]:
        return {"side": str(tiles.shape[1])}

    def close(self) -> None:
        pass

    @staticmethod
    def _middle(tiles: Pixels) -> Pixels:
        return tiles[:, HALO:-HALO, HALO:-HALO].transpose(0, 3, 1, 2)


@pytest.fixture
def server() -> Echo:
    return Echo()


@pytest.fixture
def predictor(server: Echo) -> Predictor:
    return Predictor(server, cast("Storage", SimpleNamespace()), in_flight=2)


def make_model() -> ServedModel:
    contract = TilingContract(
        channels=1,
        classes=["background", "bright"],
        activation=Activation.SIGMOID,
        halo=HALO,
        grid=4,
        cores=[CORE],
        exactness=Exactness.EXACT,
        normalisation="none",
        known_answer=KnownAnswer(side=SIDE, seed=0, step=CORE, answer=[[[0]]], tolerance=255),
    )
    return ServedModel(uuid4(), uuid4(), {}, contract)


@pytest.fixture
def model() -> ServedModel:
    return make_model()


@pytest.fixture
def models() -> list[ServedModel]:
    return [make_model() for _ in range(5)]


def names(*models: ServedModel) -> list[str]:
    return [model.server_name for model in models]


def put(number: int, out: Pixels) -> None:
    out[:] = number


def shape_of(_: Any) -> Shape:
    return SHAPE


def test_answers_come_in_the_order_of_the_items(predictor: Predictor, model: ServedModel) -> None:
    answers = list(predictor.predict_each(model, range(20), shape_of, put))
    assert [number for number, _ in answers] == list(range(20))
    assert all((answer == number).all() for number, answer in answers)


def test_an_answer_has_the_cores_of_all_tiles(predictor: Predictor, model: ServedModel) -> None:
    ((_, answer),) = predictor.predict_each(model, [1], shape_of, put)
    assert answer.shape == (2, 1, CORE, CORE)


def test_each_item_may_have_a_shape_of_its_own(predictor: Predictor, model: ServedModel) -> None:
    answers = predictor.predict_each(model, [1, 3, 2], lambda count: (count, SIDE, SIDE, 1), put)
    assert [len(answer) for _, answer in answers] == [1, 3, 2]


def test_no_more_than_the_agreed_number_is_in_flight_whoever_asks(
    predictor: Predictor, server: Echo, model: ServedModel
) -> None:
    server.gate.clear()
    server.patience = 0.02

    def consume() -> None:
        for _ in predictor.predict_each(model, range(10), shape_of, put):
            pass

    consumers = [threading.Thread(target=consume) for _ in range(3)]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join()
    assert server.most_at_once == 2


def test_one_more_is_filled_while_others_are_in_flight(predictor: Predictor, server: Echo, model: ServedModel) -> None:
    server.gate.clear()
    filled: list[int] = []

    def fill(number: int, out: Pixels) -> None:
        filled.append(number)
        if number == 2:  # the third, while two are unanswered: only then are there answers
            server.gate.set()

    next(predictor.predict_each(model, range(10), shape_of, fill))
    assert filled == [0, 1, 2]


def test_views_are_asked_for(predictor: Predictor, server: Echo, model: ServedModel) -> None:
    list(predictor.predict_each(model, range(2), shape_of, put, views=8))
    assert server.views == [8, 8]


def test_every_slot_comes_back(predictor: Predictor, server: Echo, model: ServedModel) -> None:
    list(predictor.predict_each(model, range(10), shape_of, put))
    assert server.lent == 0


def test_every_slot_comes_back_from_a_consumer_that_stops_early(
    predictor: Predictor, server: Echo, model: ServedModel
) -> None:
    answers = predictor.predict_each(model, range(10), shape_of, put)
    next(answers)
    answers.close()
    assert server.lent == 0
    assert server.at_once == 0


def test_every_slot_comes_back_from_a_fill_that_fails(predictor: Predictor, server: Echo, model: ServedModel) -> None:
    def fill(number: int, out: Pixels) -> None:
        if number == 5:
            raise ValueError("an unreadable tile")

    with pytest.raises(ValueError, match="unreadable"):
        list(predictor.predict_each(model, range(10), shape_of, fill))
    assert server.lent == 0


def test_every_slot_comes_back_from_requests_that_fail(predictor: Predictor, server: Echo, model: ServedModel) -> None:
    server.errors = [Unavailable("overloaded")]
    with pytest.raises(Unavailable):
        list(predictor.predict_each(model, range(10), shape_of, put))
    assert server.lent == 0


def test_a_failed_request_leaves_no_pixels_behind(predictor: Predictor, server: Echo, model: ServedModel) -> None:
    class Item:
        """Something that is gone when nothing holds it."""

    server.errors = [Unavailable("away")]
    item = Item()
    gone = weakref.ref(item)
    gc.disable()  # what is held in a circle goes only when the collector comes
    try:
        with pytest.raises(Unavailable):
            list(predictor.predict_each(model, iter([item]), shape_of, lambda _, out: put(1, out)))
        del item
        assert gone() is None
    finally:
        gc.enable()


def test_a_model_that_is_not_loaded_is_loaded_once_for_all_that_wait(
    predictor: Predictor, server: Echo, model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, both, infer_slot = itertools.count(), threading.Barrier(2), server.infer_slot

    def find_it_gone(name: str, slot: Slot, *, views: int = 1) -> Pixels:
        if next(calls) < 2:
            both.wait(10)
            raise NotLoaded("gone")
        return infer_slot(name, slot, views=views)

    monkeypatch.setattr(server, "infer_slot", find_it_gone)
    assert len(list(predictor.predict_each(model, range(10), shape_of, put))) == 10
    assert server.loads == 1


def test_after_a_failure_the_known_answer_is_asked_for_again(
    predictor: Predictor, server: Echo, model: ServedModel
) -> None:
    predictor.ensure_loaded(model)
    predictor.ensure_loaded(model)
    asked = server.known_questions
    server.errors = [Unavailable("Deadline Exceeded")]
    with pytest.raises(Unavailable):
        list(predictor.predict_each(model, [1], shape_of, put))
    predictor.ensure_loaded(model)
    assert (asked, server.known_questions) == (1, 2)


def test_an_engine_is_described_by_what_answers_the_known_question(predictor: Predictor, model: ServedModel) -> None:
    assert predictor.describe_engine(model) == {"side": str(SIDE)}


# How many models the server holds.


def test_the_models_that_were_not_used_for_the_longest_time_are_unloaded(
    predictor: Predictor, server: Echo, models: list[ServedModel]
) -> None:
    first, second, third, fourth, fifth = models
    for model in (first, second, third):
        predictor.ensure_loaded(model)
    predictor.predict(first, np.zeros(SHAPE, np.uint8))
    for model in (fourth, fifth):
        predictor.ensure_loaded(model)
    assert server.held == names(first, fourth, fifth)


def test_room_is_made_before_the_next_model_is_loaded(
    predictor: Predictor, server: Echo, models: list[ServedModel]
) -> None:
    most = 0
    for model in models:
        predictor.ensure_loaded(model)
        most = max(most, len(server.held))
    assert most == 3


def test_a_model_whose_tiles_are_being_predicted_is_not_unloaded(
    predictor: Predictor, server: Echo, models: list[ServedModel]
) -> None:
    first, *others = models
    predictor.ensure_loaded(first)
    answers = predictor.predict_each(first, range(10), shape_of, put)
    next(answers)
    for model in others:
        predictor.ensure_loaded(model)
    assert server.held == names(first, *others[-2:])
    answers.close()
    predictor.ensure_loaded(models[1])
    assert first.server_name not in server.held


def test_a_model_that_was_unloaded_must_give_its_known_answer_again(
    predictor: Predictor, server: Echo, models: list[ServedModel]
) -> None:
    for model in (*models, models[0]):
        predictor.ensure_loaded(model)
    assert (server.loads, server.known_questions) == (6, 6)


def test_a_server_that_does_not_unload_is_no_harm(
    predictor: Predictor, server: Echo, models: list[ServedModel]
) -> None:
    server.unloading_error = Unavailable("busy")
    for model in models:
        predictor.ensure_loaded(model)
    assert server.held == names(*models)
