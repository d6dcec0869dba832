"""Several devices."""

from dataclasses import replace

import pytest

from services.trainer.ranks import train_on_devices
from services.trainer.snapshot import Snapshot
from services.trainer.train import Start
from shared.errors import Cancelled
from tests.small_trainings import SAMPLES, Follower, assert_same_weights, make_order

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.long
def test_two_devices_learn_together_and_tell_what_one_would() -> None:
    order = make_order(devices=2, batch_size=4, epochs=2)
    follower = Follower(saves=True)
    trained = train_on_devices(order, SAMPLES, listener=follower)
    assert [epoch.epoch for epoch in follower.epochs] == [1, 2]
    assert follower.epochs == trained.history
    assert follower.snapshots
    assert len(trained.held) == 1
    resumed = train_on_devices(
        order, SAMPLES, listener=Follower(), start=Start(snapshot=Snapshot.from_bytes(follower.snapshots[0]))
    )
    assert_same_weights(trained, resumed)
    same = [replace(epoch, seconds=0.0) for epoch in resumed.history]
    assert same == [replace(epoch, seconds=0.0) for epoch in trained.history]


@pytest.mark.long
def test_what_check_raises_ends_all_devices() -> None:
    follower = Follower()

    def cancel_once_it_runs() -> None:
        if follower.steps:
            raise Cancelled

    follower.check = cancel_once_it_runs
    with pytest.raises(Cancelled):
        train_on_devices(make_order(devices=2, epochs=10_000), SAMPLES, listener=follower)
