"""From samples to a trained network."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from services.trainer import train as training
from services.trainer.data import split
from services.trainer.devices import make_fabric
from services.trainer.losses import make_loss
from services.trainer.optimisation import find_best
from services.trainer.snapshot import Snapshot
from services.trainer.train import Start, train
from services.trainer.validation import overlap, validate
from shared.errors import Cancelled, Draining, Rejected
from tests.small_trainings import (
    AUGMENTED,
    NETWORK,
    SAMPLES,
    Follower,
    assert_same_weights,
    draw_sample,
    make_order,
    train_quietly,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_overlap_counts_only_classes_that_are_there_or_found() -> None:
    counts = np.array([[50, 0, 5, 0], [0, 0, 0, 0], [5, 0, 10, 0], [0, 0, 0, 0]])  # rows are the truth
    assert overlap(counts) == pytest.approx((20 / 30, 10 / 20))
    assert overlap(np.diag([9, 0, 0])) == (1.0, 1.0)


def test_the_same_order_gives_the_same_weights() -> None:
    first, second = (train_quietly(make_order(**AUGMENTED)) for _ in range(2))
    assert_same_weights(first, second)
    other = train_quietly(make_order(**AUGMENTED, seed=1))
    assert not torch.equal(first.network.state_dict()["head.weight"], other.network.state_dict()["head.weight"])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accumulate": 2},
        {"optimiser": "sgd", "schedule": "plateau", "plateau_patience": 1, "learning_rate": 1e-6, "epochs": 4},
        {"network": {"name": "unet_stn", "widths": [4, 8], "channels": 3, "overview": 32}, "localiser": {"epochs": 1}},
    ],
)
def test_a_training_resumed_from_any_snapshot_ends_with_the_same_weights(changes: dict[str, Any]) -> None:
    order = make_order(**(AUGMENTED | changes))
    follower = Follower(saves=True)
    undisturbed = train(order, SAMPLES, listener=follower)
    assert len(follower.snapshots) >= 3
    for body in follower.snapshots:
        resumed = train_quietly(order, start=Start(snapshot=Snapshot.from_bytes(body)))
        assert_same_weights(undisturbed, resumed)
        same = [replace(epoch, seconds=0.0) for epoch in resumed.history]
        assert same == [replace(epoch, seconds=0.0) for epoch in undisturbed.history]
        assert resumed.panels == undisturbed.panels


def test_a_snapshot_survives_being_written_and_read() -> None:
    follower = Follower(saves=True)
    train(make_order(), SAMPLES, listener=follower)
    first = Snapshot.from_bytes(follower.snapshots[-1])
    again = Snapshot.from_bytes(first.to_bytes())
    assert again.history == first.history
    assert again.panels == first.panels != {}
    assert all(torch.equal(again.best_weights[name], weight) for name, weight in first.best_weights.items())


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_training_computes_in_the_ordered_precision(
    precision: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[torch.dtype] = set()
    convolve = torch.nn.Conv2d.forward

    def note_type(layer: torch.nn.Conv2d, features: torch.Tensor) -> torch.Tensor:
        answer = convolve(layer, features)
        seen.add(answer.dtype)
        return answer

    monkeypatch.setattr(torch.nn.Conv2d, "forward", note_type)
    train_quietly(make_order(epochs=1, precision=precision))
    assert seen == {dtype}


def test_training_learns_to_find_drawn_nuclei() -> None:
    samples = [draw_sample(f"{index}", height=64, width=64, seed=index) for index in range(8)]
    trained = train_quietly(make_order(epochs=12, crop=64, network=NETWORK | {"widths": [8, 16]}), samples)
    assert trained.history[-1].train_loss < 0.7 * trained.history[0].train_loss
    assert trained.best.validation_dice > 0.6
    assert trained.history[-1].train_dice > trained.history[0].train_dice


def test_the_best_epoch_is_the_one_that_is_kept() -> None:
    order = make_order(epochs=4)
    trained = train_quietly(order)
    loss = make_loss(order.loss, classes=1, samples=SAMPLES)
    _, held = split(SAMPLES, order.split, seed=order.seed)
    scores = validate(trained.network, held, loss=loss, fabric=make_fabric("auto"), check=lambda: None)
    assert trained.best.validation_dice == max(epoch.validation_dice for epoch in trained.history)
    assert scores.dice == pytest.approx(trained.best.validation_dice)
    assert not trained.network.training


def test_validation_in_tiles_scores_as_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, fabric = train_quietly(make_order()), make_fabric("fp32")
    sample = draw_sample("large", height=90, width=75)
    loss = make_loss(make_order().loss, classes=1, samples=[sample])
    whole = validate(trained.network, [sample], loss=loss, fabric=fabric, check=lambda: None)
    monkeypatch.setattr("services.trainer.validation.CORE", 32)
    tiled = validate(trained.network, [sample], loss=loss, fabric=fabric, check=lambda: None)
    assert (tiled.dice, tiled.iou) == (whole.dice, whole.iou)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": NETWORK | {"classes": 3}, "masks": {"kind": "classes"}},
        {"network": NETWORK | {"classes": 2, "padding": "valid", "batch_norm": False}},
        {"network": {"name": "unet_stn", "widths": [4, 8], "channels": 3, "overview": 32}},
        {"network": {"name": "unet_plus_plus", "widths": [4, 8, 8]}},
        {"loss": {"cross_entropy": 1, "dice": 1, "class_weights": "frequency"}},
    ],
)
def test_every_kind_of_network_and_loss_trains(changes: dict[str, Any]) -> None:
    samples = SAMPLES
    if "masks" in changes:
        samples = [replace(s, mask=s.mask * (1 + index % 2)) for index, s in enumerate(SAMPLES)]
    trained = train_quietly(make_order(**changes), samples)
    assert len(trained.history) == 2


def test_every_epoch_and_every_step_is_told() -> None:
    follower = Follower()
    trained = train(make_order(epochs=3), SAMPLES, listener=follower)
    assert follower.epochs == trained.history
    assert [epoch.epoch for epoch in follower.epochs] == [1, 2, 3]
    steps = follower.steps[0][2]
    assert follower.steps == [(epoch, step, steps) for epoch in (1, 2, 3) for step in range(1, steps + 1)]


def test_each_best_epoch_shows_what_it_finds_in_the_same_samples() -> None:
    follower = Follower()
    trained = train(make_order(epochs=4), SAMPLES, listener=follower)
    best_so_far = [find_best(trained.history[: epoch.epoch]) is epoch for epoch in trained.history]
    assert [bool(panel) for panel in follower.panels] == best_so_far
    assert {tuple(row.name for row in panel) for panel in follower.panels if panel} == {(trained.held[0].name,)}
    assert sorted(trained.panels) == [
        epoch.epoch for epoch, best in zip(trained.history, best_so_far, strict=True) if best
    ]


def test_what_check_raises_ends_the_training() -> None:
    calls = 0

    def cancel_at_the_third_step() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(make_order(epochs=1000), SAMPLES, listener=Follower(check=cancel_at_the_third_step))
    assert calls == 3


def test_a_training_that_diverges_is_rejected_with_step_images_and_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([0.5, 0.5, float("nan")])
    monkeypatch.setattr(training, "make_loss", lambda *_, **__: lambda heads, *_: heads[-1].mean() * 0 + next(losses))
    with pytest.raises(
        Rejected, match=r"nan in epoch 1, step 3, on the crops of \d.png.*learning_rate, 0.01 now, to 0.001"
    ):
        train_quietly(make_order())


@pytest.mark.parametrize(
    ("changes", "mend"),
    [
        ({"crop": 33}, r"multiples? of 2"),
        ({"crop": 32, "batch_size": 1, "network": NETWORK | {"widths": [1] * 6}}, "raise crop or batch_size"),
        ({"resize": 32, "crop": 64}, "lower crop or raise resize"),
    ],
)
def test_an_order_that_cannot_work_is_rejected_before_any_step(changes: dict[str, Any], mend: str) -> None:
    with pytest.raises(Rejected, match=mend):
        train_quietly(make_order(**changes))


def test_what_was_done_is_kept_when_the_process_ends() -> None:
    follower = Follower()

    def end_at_the_third_step() -> None:
        if len(follower.steps) == 2:
            raise Draining

    follower.check = end_at_the_third_step
    with pytest.raises(Draining):
        train(make_order(), SAMPLES, listener=follower)
    (body,) = follower.snapshots
    resumed = train_quietly(make_order(), start=Start(snapshot=Snapshot.from_bytes(body)))
    assert_same_weights(resumed, train_quietly(make_order()))


def test_the_last_snapshot_is_that_of_the_end() -> None:
    follower = Follower()
    trained = train(make_order(), SAMPLES, listener=follower)
    last = Snapshot.from_bytes(follower.snapshots[-1])
    assert len(last.history) == len(trained.history)
    assert train_quietly(make_order(), start=Start(snapshot=last)).history == trained.history
