"""The learning rate, the best epoch and the end of patience: functions of the history."""

from collections.abc import Sequence

import pytest

from services.trainer.history import Epoch
from services.trainer.optimisation import count_plateaus, is_exhausted, learning_rate
from tests.small_trainings import make_order, train_quietly

pytestmark = pytest.mark.usefixtures("one_thread")


def make_history(*losses: float, dice: Sequence[float] = ()) -> list[Epoch]:
    scores = dice or [0.5] * len(losses)
    return [
        Epoch(number, loss, 0.5, 0.5, loss, score, score, 0.1, 1.0)
        for number, (loss, score) in enumerate(zip(losses, scores, strict=True), 1)
    ]


def test_the_rate_falls_to_a_third_after_each_plateau() -> None:
    assert count_plateaus(make_history(5, 4, 4, 4, 3, 3, 3), patience=2) == 2
    assert count_plateaus(make_history(5, 4, 3, 2), patience=2) == 0
    order = make_order(schedule="plateau", plateau_patience=2, learning_rate=0.9)
    assert learning_rate(order, make_history(1, 1, 1), done=0.5) == pytest.approx(0.3)


def test_the_cosine_begins_at_the_rate_and_ends_at_nothing() -> None:
    order = make_order(learning_rate=0.5)
    assert learning_rate(order, [], done=0) == 0.5
    assert learning_rate(order, [], done=0.5) == pytest.approx(0.25)
    assert learning_rate(order, [], done=1) == pytest.approx(0)


def test_training_stops_when_patience_is_exhausted_and_keeps_the_best_weights() -> None:
    assert is_exhausted(make_order(patience=2), make_history(1, 1, 1, dice=[0.9, 0.1, 0.1]))
    assert not is_exhausted(make_order(patience=2), make_history(1, 1, dice=[0.9, 0.1]))
    trained = train_quietly(make_order(epochs=500, patience=1, learning_rate=1e-9, schedule="constant"))
    assert len(trained.history) < 500
    assert trained.best.epoch == len(trained.history) - 1
