"""From samples to a trained network."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch

from services.trainer import train as training
from services.trainer.data import Sample, split
from services.trainer.devices import make_fabric
from services.trainer.history import Epoch
from services.trainer.losses import make_loss
from services.trainer.networks import UNetStn, build_network
from services.trainer.optimisation import count_plateaus, find_best, is_exhausted, learning_rate
from services.trainer.pretraining import draw_warps, teach_localiser
from services.trainer.ranks import train_on_devices
from services.trainer.reports.panels import PanelRow
from services.trainer.snapshot import Snapshot
from services.trainer.starting import begin_with
from services.trainer.train import Start, Trained, train
from services.trainer.validation import overlap, validate
from shared.errors import Cancelled, Draining, Rejected
from shared.imaging.drawing import draw_nuclei
from shared.schemas.training import LocaliserIn, TrainIn

NETWORK = {"widths": [4, 8], "channels": 3, "classes": 1}


def make_order(**changes: Any) -> TrainIn:
    fields: dict[str, Any] = {
        "kind": "train",
        "dataset_version": UUID(int=0),
        "model": "nuclei",
        "network": NETWORK,
        "epochs": 2,
        "batch_size": 2,
        "crop": 32,
        "learning_rate": 1e-2,
        "deterministic": True,
    }
    return TrainIn.model_validate(fields | changes)


def draw_sample(name: str, *, height: int = 48, width: int = 40, seed: int = 0) -> Sample:
    image, labels = draw_nuclei(height, width, seed=seed, stain="fluorescence")
    return Sample(name, image, (labels > 0).astype(np.uint8))


SAMPLES = [draw_sample(f"{index}.png", seed=index) for index in range(4)]


class Follower:
    """Keeps what it hears. Saves after every step, or never."""

    def __init__(self, *, saves: bool = False, check: Callable[[], None] = lambda: None) -> None:
        self.saves, self.check = saves, check
        self.steps: list[tuple[int, int, int]] = []
        self.epochs: list[Epoch] = []
        self.panels: list[Sequence[PanelRow]] = []
        self.snapshots: list[bytes] = []

    def step(self, epoch: int, step: int, steps: int) -> None:
        self.steps.append((epoch, step, steps))

    def epoch(self, epoch: Epoch, best: Epoch, panel: Sequence[PanelRow]) -> bytes | None:
        self.epochs.append(epoch)
        self.panels.append(panel)
        return b"picture" if panel else None

    def wants_snapshot(self) -> bool:
        return self.saves

    def save(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot.to_bytes())


def train_quietly(order: TrainIn, samples: Sequence[Sample] = SAMPLES, start: Start | None = None) -> Trained:
    return train(order, samples, listener=Follower(), start=start)


def assert_same_weights(one: Trained, other: Trained) -> None:
    first, second = one.network.state_dict(), other.network.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from more, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


AUGMENTED = {
    "augmentation": {"scale": 0.1, "rotate": 10, "translate": 4, "shear": 5, "contrast": 0.2, "brightness": 20},
    "network": {**NETWORK, "dropout": 0.2},
}


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


def test_training_stops_when_patience_is_exhausted_and_keeps_the_best_weights() -> None:
    assert is_exhausted(make_order(patience=2), make_history(1, 1, 1, dice=[0.9, 0.1, 0.1]))
    assert not is_exhausted(make_order(patience=2), make_history(1, 1, dice=[0.9, 0.1]))
    trained = train_quietly(make_order(epochs=500, patience=1, learning_rate=1e-9, schedule="constant"))
    assert len(trained.history) < 500
    assert trained.best.epoch == len(trained.history) - 1


def test_fine_tuning_begins_with_the_given_weights_and_a_frozen_encoder_keeps_them() -> None:
    first = train_quietly(make_order()).network.state_dict()
    order = make_order(start={"model": "nuclei@1", "freeze_encoder": True}, seed=3)
    tuned = train_quietly(order, start=Start(weights=copy.deepcopy(first))).network.state_dict()
    encoder = [name for name in first if name.startswith("encoder")]
    assert encoder
    assert all(torch.equal(first[name], tuned[name]) for name in encoder)
    assert not torch.equal(first["head.weight"], tuned["head.weight"])


def test_weights_of_another_network_are_refused_with_the_first_that_does_not_fit() -> None:
    network = build_network(make_order().network)
    wider = build_network(make_order(network=NETWORK | {"widths": [6, 8]}).network).state_dict()
    with pytest.raises(Rejected, match="order the same widths and channels"):
        begin_with(network, wider, freeze_encoder=False)
    with pytest.raises(Rejected, match="another kind of network"):
        begin_with(network, {}, freeze_encoder=False)


def test_a_head_for_other_classes_begins_anew() -> None:
    network = build_network(make_order(network=NETWORK | {"classes": 3}, masks={"kind": "classes"}).network)
    other = build_network(make_order().network).state_dict()
    begin_with(network, other, freeze_encoder=False)
    assert torch.equal(network.state_dict()["encoder.0.layers.0.weight"], other["encoder.0.layers.0.weight"])


def test_a_localiser_learns_from_images_without_masks_to_undo_a_warp() -> None:
    order = make_order(network={"name": "unet_stn", "widths": [2, 4], "channels": 1, "overview": 32}).network
    torch.manual_seed(0)
    network = build_network(order)
    assert isinstance(network, UNetStn)
    noise = np.random.default_rng(0).integers(0, 32, (16, 64, 64, 1))
    lit_from_above = np.linspace(0, 220, 64)[:, None, None]  # without a light nobody could tell what is upright
    images = list((lit_from_above + noise).astype(np.uint8))
    lesson = LocaliserIn(epochs=40, learning_rate=3e-3, rotate=60, scale=0, translate=0)
    losses = teach_localiser(network, images, lesson, seed=0, check=lambda: None)
    assert losses[-1] < 0.3 * losses[0]


def test_the_warps_of_a_lesson_stay_within_its_bounds() -> None:
    lesson = LocaliserIn(rotate=0, scale=0, translate=0.3)
    warps = draw_warps(4, lesson, np.random.default_rng(0))
    assert torch.equal(warps[:, :2, :2], torch.eye(2).expand(4, 2, 2))


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
