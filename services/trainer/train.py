"""The training loop: it reads from top to bottom."""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from services.trainer.augment import Augmenter
from services.trainer.data import Batch, Crops, Sample, split
from services.trainer.devices import determinism, make_fabric
from services.trainer.history import Epoch
from services.trainer.losses import make_loss
from services.trainer.networks import Network, build_network
from services.trainer.networks.inputs import as_input
from services.trainer.optimisation import find_best, is_exhausted, learning_rate, make_optimiser
from services.trainer.pretraining import teach_localiser
from services.trainer.reports.panels import PanelRow
from services.trainer.snapshot import Snapshot, Weights
from services.trainer.starting import begin_with, refuse_unworkable
from services.trainer.validation import add_up, count, find_classes, overlap, validate
from shared.errors import Draining, Rejected
from shared.imaging.tiling import Pixels
from shared.schemas.training import TrainIn


class Listener(Protocol):
    """Who follows a training. Each call may raise, which ends the training and passes through."""

    def check(self) -> None:
        """Called at every step."""

    def step(self, epoch: int, step: int, steps: int) -> None:
        """A step is done; both count from 1."""

    def epoch(self, epoch: Epoch, best: Epoch, panel: Sequence[PanelRow]) -> bytes | None:
        """An epoch is done; `panel` shows what it found if it is the best one. Returns a picture of it to keep."""

    def wants_snapshot(self) -> bool:
        """Whether it is time to save; asked after every step of the optimiser."""

    def save(self, snapshot: Snapshot) -> None:
        """Keep the snapshot: as bytes at once, for its tensors go on changing."""


@dataclass(frozen=True)
class Start:
    """What a training begins with besides its order; nothing at all for a new network."""

    weights: Weights | None = None  # of a registered version, to fine-tune
    unlabelled: Sequence[Pixels] = ()  # images (H, W, C) without masks, for a localiser to learn from
    snapshot: Snapshot | None = None  # of this very training, interrupted


@dataclass(frozen=True)
class Trained:
    """A trained network in evaluation mode, with the weights of its best epoch."""

    network: Network
    history: list[Epoch]
    best: Epoch
    held: list[Sample]  # the validation samples
    panels: dict[int, bytes] = field(default_factory=dict)
    seconds: float = 0.0


def train(
    order: TrainIn,
    samples: Sequence[Sample],
    *,
    listener: Listener,
    start: Start | None = None,
    fabric: Fabric | None = None,
) -> Trained:
    """Train the ordered network and keep the epoch with the best validation Dice (of equals, the lowest loss).

    Everything random follows from the seed and the step, so that a training that begins with the snapshot of an
    interrupted one ends with the weights of an undisturbed one: bit for bit if the order says `deterministic`, on the
    same kind of processor with as many threads.

    `samples`: with the channels and classes of the ordered network.

    Raises:
        Rejected: the order cannot work, or the loss is no number any more.
    """
    fabric = fabric or make_fabric(order.precision)
    with determinism(wanted=order.deterministic):
        return _Run(order, samples, listener=listener, start=start or Start(), fabric=fabric).finish()


class _Run:
    """The state of a training on one device."""

    def __init__(
        self, order: TrainIn, samples: Sequence[Sample], *, listener: Listener, start: Start, fabric: Fabric
    ) -> None:
        self._order, self._listener, self._fabric = order, listener, fabric
        self._begun = time.monotonic()
        seed_step(order.seed, epoch=0, step=0)
        self._training, self._held = split(samples, order.split, seed=order.seed)
        with torch.device("meta"):  # refused before anything is allocated
            refuse_unworkable(order, build_network(order.network))
        self._network = build_network(order.network)
        if fabric.device.type == "cuda":  # on CPUs the input's layout decides, and the weights' own costs a tenth
            self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub forgets this
        if start.weights is not None:
            begin_with(self._network, start.weights, freeze_encoder=bool(order.start and order.start.freeze_encoder))
        self._has_learnt_lesson = order.localiser is not None and start.snapshot is None
        if order.localiser is not None and start.snapshot is None:
            unlabelled = [*start.unlabelled, *(sample.image for sample in self._training)]
            teach_localiser(self._network, unlabelled, order.localiser, seed=order.seed, check=listener.check)
        self._loss = make_loss(order.loss, classes=order.network.classes, samples=self._training)
        self._augment = Augmenter(order.augmentation)
        self._crops = Crops(
            self._training,
            side=order.crop,
            margin=self._network.margin,
            batch_size=order.batch_size,
            seed=order.seed,
            per_image=order.crops_per_image,
        )
        optimiser = make_optimiser(order, self._network)
        self._model, self._optimiser = fabric.setup(self._network, optimiser)
        self._model.mark_forward_method("heads")
        classes = max(self._network.classes, 2)
        self._state = start.snapshot or Snapshot(counts=torch.zeros((classes, classes), dtype=torch.int64))
        if start.snapshot is not None:
            self._network.load_state_dict(start.snapshot.weights)
            self._optimiser.load_state_dict(start.snapshot.optimiser)
            self._state.weights, self._state.optimiser = {}, {}  # not held twice

    def finish(self) -> Trained:
        """Go on to the end."""
        state, order = self._state, self._order
        if self._has_learnt_lesson:
            self._save()
        while state.epoch <= order.epochs and not is_exhausted(order, state.history):
            self._learn_epoch()
            self._validate()
            self._start_next_epoch()
        self._save()
        self._network.load_state_dict(state.best_weights)
        return Trained(
            network=self._network.eval(),
            history=state.history,
            best=find_best(state.history),
            held=self._held,
            panels=state.panels,
            seconds=state.spent,
        )

    def _learn_epoch(self) -> None:
        """From wherever the epoch stands to its end."""
        state, steps = self._state, self._crops.steps
        self._network.train()
        while state.step < steps:
            self._check()
            group = range(state.step, min(state.step + self._order.accumulate, steps))
            self._set_rate(self.rate())
            for step in group:
                with self._fabric.no_backward_sync(self._model, enabled=step != group[-1]):
                    self._learn(step, share=1 / len(group))
            self._optimiser.step()
            self._optimiser.zero_grad()
            state.step = group[-1] + 1
            self._listener.step(state.epoch, state.step, steps)
            # What the other devices have counted in this epoch is not here: several save between epochs only.
            if state.step < steps and self._fabric.world_size == 1 and self._listener.wants_snapshot():
                self._save()

    def _check(self) -> None:
        """Where the work should stop because this process ends, what was done is kept."""
        try:
            self._listener.check()
        except Draining:
            self._save()
            raise

    def rate(self) -> float:
        """The learning rate of the next step."""
        state, steps = self._state, self._crops.steps
        done = ((state.epoch - 1) * steps + state.step) / (self._order.epochs * steps)
        return learning_rate(self._order, state.history, done=done)

    def _learn(self, step: int, *, share: float) -> None:
        """Gradients of one batch, or of this device's part of it."""
        state = self._state
        batch = self._crops.batch(state.epoch, step)
        seed_step(self._order.seed, epoch=state.epoch, step=step + 1, rank=self._fabric.global_rank)
        images, masks, borders = self._to_tensors(batch)
        with self._fabric.autocast():  # on one device Fabric applies its precision to `forward` alone
            heads = self._model.heads(images)
        loss = self._loss(heads, masks, borders)
        state.losses.append(self._finite(loss, batch, step))
        self._fabric.backward(loss * share)
        state.counts = state.counts + count(find_classes(heads[-1]), masks, max(self._network.classes, 2))

    def _to_tensors(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """This device's part of the batch, augmented; masks and borders cut to what the network answers."""
        mine = slice(self._fabric.global_rank, None, self._fabric.world_size)
        images = self._fabric.to_device(torch.from_numpy(batch.images[mine]))
        masks = self._fabric.to_device(torch.from_numpy(batch.masks[mine]))
        borders = None
        if batch.borders is not None:
            borders = self._fabric.to_device(torch.from_numpy(batch.borders[mine])).float()
        images, masks, borders = self._augment(as_input(images), masks, borders)
        margin = self._network.margin
        inner = slice(margin, -margin or None)
        return images, masks[:, inner, inner], borders if borders is None else borders[:, inner, inner]

    def _finite(self, loss: Tensor, batch: Batch | None, step: int) -> float:
        """The loss as a number. Raises Rejected if it is none any more: no later step can mend the weights."""
        value = float(loss.detach())
        if math.isfinite(value):
            return value
        rate = self._order.learning_rate
        where = f"on the crops of {', '.join(sorted(set(batch.names)))}" if batch else "in validation"
        raise Rejected(
            f"the loss became {value} in epoch {self._state.epoch}, step {step + 1}, {where}: the training diverged; "
            f"lower learning_rate, {rate:g} now, to {rate / 10:g}"
        )

    def _validate(self) -> None:
        """Score the epoch, write it down, and keep its weights if it is the best so far."""
        state = self._state
        self._share_statistics()
        scores = validate(self._network, self._held, loss=self._loss, fabric=self._fabric, check=self._listener.check)
        self._finite(torch.tensor(scores.loss), None, state.step - 1)
        sums = add_up(torch.tensor([math.fsum(state.losses), len(state.losses)], dtype=torch.float64), self._fabric)
        train_dice, train_iou = overlap(add_up(state.counts, self._fabric).numpy())
        epoch = Epoch(
            epoch=state.epoch,
            train_loss=float(sums[0] / sums[1]),
            train_dice=train_dice,
            train_iou=train_iou,
            validation_loss=scores.loss,
            validation_dice=scores.dice,
            validation_iou=scores.iou,
            learning_rate=self._optimiser.param_groups[0]["lr"],
            seconds=state.spent_in_epoch + self._seconds(),
        )
        state.history = [*state.history, epoch]
        best = find_best(state.history)
        if best is epoch:
            state.best_weights = copy.deepcopy(self._network.state_dict())
        picture = self._listener.epoch(epoch, best, scores.panel if best is epoch else ())
        if picture is not None:
            state.panels = {**state.panels, epoch.epoch: picture}

    def _share_statistics(self) -> None:
        """BatchNorm has seen other crops on each device; what is kept and scored is what the first one saw."""
        if self._fabric.world_size > 1:
            for statistic in self._network.buffers():
                statistic.copy_(self._fabric.broadcast(statistic))

    def _start_next_epoch(self) -> None:
        state = self._state
        self._keep_time()
        state.epoch, state.step, state.losses, state.spent_in_epoch = state.epoch + 1, 0, [], 0.0
        state.counts = torch.zeros_like(state.counts)
        if self._listener.wants_snapshot():
            self._save()

    def _save(self) -> None:
        self._keep_time()
        snapshot = copy.copy(self._state)
        snapshot.weights = self._network.state_dict()
        snapshot.optimiser = self._optimiser.state_dict()
        snapshot.losses = list(self._state.losses)
        self._listener.save(snapshot)

    def _keep_time(self) -> None:
        """Count what was worked since the last time."""
        seconds = self._seconds()
        self._state.spent += seconds
        self._state.spent_in_epoch += seconds
        self._begun = time.monotonic()

    def _seconds(self) -> float:
        return time.monotonic() - self._begun

    def _set_rate(self, rate: float) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = rate


def seed_step(seed: int, *, epoch: int, step: int, rank: int = 0) -> None:
    """Make what torch draws next, in augmentation and dropout, a function of where the training stands."""
    (state,) = np.random.SeedSequence((seed, epoch, step, rank)).generate_state(1, np.uint64)
    torch.manual_seed(int(state))


def describe_progress(order: TrainIn, epoch: Epoch, best: Epoch) -> dict[str, Any]:
    """The figures of an epoch, as they are noted for progress bars."""
    return {"epochs": order.epochs, **vars(epoch), "best_epoch": best.epoch, "best_dice": best.validation_dice}
